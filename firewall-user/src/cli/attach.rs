//! `secgroup attach`

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::interface::{Orientation, State, TcpChecks};

use super::failure::Misuse;
use super::safety::Safety;
use super::{Context, Exit, output};
use crate::control::{Attaching, Attachment, Terms};
use crate::dataplane::hooks::{hook, trace};
use crate::model::{HookChoice, Interface, InterfaceId, Mode, Model, Tracking};
use crate::store::Transaction;

#[derive(Debug, Args)]
#[command(after_help = "\
States of --timeout and their seconds when not given: EC2's names where EC2 has one
  TcpSynSentTimeout 120, TcpSynRecvTimeout 60, TcpEstablishedTimeout 432000, TcpFinWaitTimeout 120,
  TcpCloseWaitTimeout 60, TcpLastAckTimeout 30, TcpTimeWaitTimeout 120, TcpCloseTimeout 10,
  UdpTimeout 30, UdpStreamTimeout 180, IcmpTimeout 30, OtherTimeout 600
  (also in the form tcp-established)

Examples:
  secgroup attach eth0 --group web --group ssh
  secgroup attach tap7 --group vm --orientation guest --address 10.0.0.7
  secgroup attach eth0 --group web --netns blue --timeout TcpEstablishedTimeout=350")]
pub(super) struct Command {
    /// Network device
    #[arg(value_name = "IFACE")]
    device: String,
    /// Group by id or name; may be repeated. All groups add up, and replace those attached before
    #[arg(long = "group", value_name = "GROUP", required = true)]
    groups: Vec<String>,
    /// Where the receive program runs [default: auto, or as attached before]
    #[arg(long, value_enum)]
    hook: Option<Hook>,
    /// Which end of the device is protected [default: host, or as attached before]
    #[arg(long, value_enum)]
    orientation: Option<Side>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    /// Idle timeout of a state in seconds, 1 or more; may be repeated
    #[arg(long = "timeout", value_name = "STATE=SECONDS")]
    timeouts: Vec<String>,
    /// Frames that are not IP and pass, besides ARP [default: control, or as attached before]
    #[arg(long, value_enum)]
    non_ip: Option<Others>,
    /// How closely TCP is followed [default: guard, or as attached before]
    #[arg(long, value_enum)]
    tcp: Option<Tcp>,
    /// Whether a TCP connection may be taken up in its middle [default: on, or as attached before;
    /// off with --tcp strict]
    #[arg(long, value_enum)]
    pick_up: Option<Switch>,
    /// Which traffic is remembered in flows [default: auto, or as attached before]
    #[arg(long, value_enum)]
    tracking: Option<Remembered>,
    /// Whether what is to be dropped is [default: enforce, or as attached before]
    #[arg(long, value_enum)]
    mode: Option<Asked>,
    /// Whether the rules are asked about a flow again after they have changed, which cuts it if none
    /// allows it [default: off, or as attached before]
    #[arg(long, value_enum)]
    revalidate: Option<Again>,
    /// Inside address that the device does not carry itself (a guest's), for rules whose peer is a
    /// group; may be repeated
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Cut the connections that are open and that no rule lets go on [default: on a device that is
    /// not attached yet, they get a flow]
    #[arg(long)]
    no_learn: bool,
    /// Print a line per packet until interrupted, then go on without
    #[arg(long, conflicts_with = "confirm")]
    trace: bool,
    #[command(flatten)]
    safety: Safety,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hook {
    /// Native XDP on hardware whose driver has it, else TCX, or clsact where the kernel has no TCX
    Auto,
    /// Native XDP: cheapest drops; on veth, tap and virtio it switches receive offload off
    Xdp,
    /// Generic XDP: any driver, no faster than TCX
    XdpGeneric,
    /// TCX (Linux 6.6): any driver, keeps every offload
    Tcx,
    /// Filters of a clsact qdisc: what TCX does, on older kernels
    Clsact,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Side {
    /// The device belongs to the protected host
    Host,
    /// The device is the host's end of a VM's tap or a container's veth
    Guest,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Others {
    /// LLDP, EAPOL, LACP, spanning tree and other LLC
    Control,
    /// Everything, also what carries IP inside
    All,
    /// Nothing
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tcp {
    /// Check what could end a connection; the endpoints settle the rest
    Guard,
    /// Drop what is out of a connection's window, or of a connection not seen from its first SYN
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// A segment that the rules allow opens a flow, whatever came before
    On,
    /// Only a SYN opens a flow
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Remembered {
    /// All but TCP and UDP that rules allow from anywhere, together with every answer: as EC2
    Auto,
    /// All
    Always,
}

/// See [`Mode`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Asked {
    /// Drop it
    Enforce,
    /// Count it as dropped and let it pass
    Audit,
}

impl From<Asked> for Mode {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Enforce => Self::Enforce,
            Asked::Audit => Self::Audit,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Again {
    /// A flow ends with its last rule
    On,
    /// A flow outlives its rule: as EC2
    Off,
}

impl From<Tcp> for TcpChecks {
    fn from(tcp: Tcp) -> Self {
        match tcp {
            Tcp::Guard => Self::Guard,
            Tcp::Strict => Self::Strict,
        }
    }
}

impl From<Remembered> for Tracking {
    fn from(remembered: Remembered) -> Self {
        match remembered {
            Remembered::Auto => Self::Auto,
            Remembered::Always => Self::Always,
        }
    }
}

impl From<Hook> for HookChoice {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Auto => Self::Auto,
            Hook::Xdp => Self::Xdp,
            Hook::XdpGeneric => Self::XdpGeneric,
            Hook::Tcx => Self::Tcx,
            Hook::Clsact => Self::Clsact,
        }
    }
}

impl From<Side> for Orientation {
    fn from(side: Side) -> Self {
        match side {
            Side::Host => Self::Host,
            Side::Guest => Self::Guest,
        }
    }
}

impl From<Others> for NonIp {
    fn from(others: Others) -> Self {
        match others {
            Others::Control => Self::Control,
            Others::All => Self::All,
            Others::None => Self::None,
        }
    }
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let what = format!("attach {}", self.device);
        self.attach(context, &what).context(what.clone())
    }

    fn attach(self, context: &Context, what: &str) -> Result<Exit> {
        let timeouts = timeouts(&self.timeouts)?;
        let mut control = context.control()?;
        let capacity = context.config.maps.interfaces;
        let how = Attaching { traced: self.trace, learns: !self.no_learn };
        let made = control.attach(&self.safety.terms(what), how, |change| {
            let interface = self.interface(change, timeouts, capacity)?;
            change.put_interface(&interface)?;
            Ok(interface)
        })?;
        let Attachment { interface, attached, learned } = made;
        self.safety.remind(&control)?;
        let groups = group_names(control.model()?, &interface);
        output::lines([format!(
            "{} {}: groups {}; {} ({}), {} orientation",
            interface.id,
            interface.device,
            groups,
            attached.hook.name(),
            hook::why(interface.hook, attached.hook, &attached.device),
            interface.orientation.name(),
        )])?;
        if learned.flows > 0 {
            output::lines([format!("{} open connections learned", learned.flows)])?;
        }
        if learned.left_out > 0 {
            eprintln!(
                "secgroup: {} open connections not learned, for the table of proven flows is full: \
                 [maps] flows_proven makes it larger",
                learned.left_out
            );
        }
        if self.trace {
            trace::until_interrupted(control.pins(), interface.slot)?;
            control.attach(&Terms::default(), Attaching::default(), |_| Ok(interface.clone()))?;
            return Ok(Exit::Interrupted);
        }
        Ok(Exit::Done)
    }

    /// What the interface is to be: what was given now over what was attached before.
    fn interface(
        &self,
        change: &Transaction<'_>,
        timeouts: BTreeMap<State, u32>,
        capacity: u32,
    ) -> Result<Interface> {
        let model = change.model();
        let groups = self
            .groups
            .iter()
            .map(|word| Ok(model.group(word)?.id.clone()))
            .collect::<Result<_>>()?;
        let before = model.interface(&self.device, self.netns.as_deref()).cloned();
        let mut interface = match before {
            Some(interface) => interface,
            None => Interface {
                id: InterfaceId::random()?,
                slot: change.free_slot(capacity)?,
                device: self.device.clone(),
                netns: self.netns.clone(),
                groups: Vec::new(),
                hook: HookChoice::Auto,
                orientation: Orientation::Host,
                non_ip: NonIp::Control,
                tcp: TcpChecks::Guard,
                pick_up: true,
                tracking: Tracking::Auto,
                mode: Mode::Enforce,
                revalidate: false,
                timeouts: BTreeMap::new(),
                addresses: Vec::new(),
            },
        };
        interface.groups = groups;
        interface.hook = self.hook.map_or(interface.hook, Into::into);
        interface.orientation = self.orientation.map_or(interface.orientation, Into::into);
        interface.non_ip = self.non_ip.map_or(interface.non_ip, Into::into);
        interface.tcp = self.tcp.map_or(interface.tcp, Into::into);
        interface.pick_up = self.pick_up.map_or(interface.pick_up, |asked| asked == Switch::On);
        interface.tracking = self.tracking.map_or(interface.tracking, Into::into);
        interface.mode = self.mode.map_or(interface.mode, Into::into);
        interface.revalidate =
            self.revalidate.map_or(interface.revalidate, |asked| asked == Again::On);
        if self.pick_up == Some(Switch::On) && interface.tcp == TcpChecks::Strict {
            return Err(Misuse {
                message: "--pick-up on: strict TCP takes up no connection in its middle".to_owned(),
                hint: "--tcp guard does",
            }
            .into());
        }
        interface.timeouts.extend(timeouts);
        interface.timeouts.retain(|state, seconds| *seconds != state.default_timeout());
        if !self.addresses.is_empty() {
            interface.addresses.clone_from(&self.addresses);
        }
        Ok(interface)
    }
}

fn group_names(model: Model, interface: &Interface) -> String {
    let names = interface.groups.iter().filter_map(|id| model.groups.get(id));
    names.map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn timeouts(words: &[String]) -> Result<BTreeMap<State, u32>> {
    words.iter().map(|word| timeout(word)).collect()
}

fn timeout(word: &str) -> Result<(State, u32)> {
    let misuse = |message: String, hint| Misuse { message, hint };
    let (name, seconds) = word.split_once('=').ok_or_else(|| {
        misuse(
            format!("timeout {word:?}: not STATE=SECONDS"),
            "for example TcpEstablishedTimeout=350",
        )
    })?;
    let state =
        State::ALL.iter().copied().find(|state| is_name_of(*state, name)).ok_or_else(|| {
            misuse(
                format!("timeout {word:?}: no state {name:?}"),
                "`attach --help` lists the states",
            )
        })?;
    let seconds = seconds.parse().ok().filter(|seconds| *seconds >= 1).ok_or_else(|| {
        misuse(
            format!("timeout {word:?}: {seconds:?} is not a number of seconds"),
            "1 to 4294967295",
        )
    })?;
    Ok((state, seconds))
}

/// EC2's form, the state's own name, or EC2's form in kebab case.
fn is_name_of(state: State, name: &str) -> bool {
    let bare = |text: &str| text.replace('-', "").to_ascii_lowercase();
    let full = bare(state.timeout_name());
    let name = bare(name);
    name == full || Some(name.as_str()) == full.strip_suffix("timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_named_in_three_forms() {
        for word in ["TcpEstablishedTimeout=350", "tcp-established=350", "tcpestablished=350"] {
            assert_eq!(timeout(word).unwrap(), (State::Established, 350));
        }
        assert_eq!(timeout("udp-stream=1").unwrap(), (State::UdpStream, 1));
        assert_eq!(timeout("UdpTimeout=4294967295").unwrap(), (State::Udp, u32::MAX));
        for word in ["udp", "udp=0", "udp=-1", "udp=x", "udp=4294967296", "nothing=1", "=1"] {
            assert!(timeout(word).is_err(), "{word}");
        }
    }

    #[test]
    fn the_help_text_names_every_state_with_its_default() {
        let help = <Command as Args>::augment_args(clap::Command::new("attach"));
        let text = help.get_after_help().unwrap().to_string();
        for state in State::ALL {
            let words = format!("{} {}", state.timeout_name(), state.default_timeout());
            assert!(text.contains(&words), "{words}");
        }
    }
}
