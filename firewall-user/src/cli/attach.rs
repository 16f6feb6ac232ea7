//! `secgroup attach`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use firewall_ebpf::abi::interface::{NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::state::State;

use super::failure::UsageError;
use super::interfaces::{InterfaceArgs, Named};
use super::safety::Safety;
use super::{Context, Exit, members, output};
use crate::config::{MAX_ENTRIES, MIN_ENTRIES};
use crate::control::follow::to_attach;
use crate::control::{AttachOptions, Attachment};
use crate::dataplane::Pins;
use crate::dataplane::hooks::hook;
use crate::model::{EtherType, HookChoice, Interface, Mode, Model, Tracking};
use crate::store::Transaction;

mod port;

use port::{NONE, Port, PortArgs};

#[derive(Debug, Args)]
#[command(after_help = "\
Of an interface that is attached, groups and options that are not named stay as they are. One that is
not attached needs --group, and has the defaults for the options that are not named.

States of --timeout, with the default in seconds (names of EC2 where EC2 has one; docs/states.md):
  TcpSynSentTimeout 120, TcpSynRecvTimeout 60, TcpEstablishedTimeout 432000, TcpFinWaitTimeout 120,
  TcpCloseWaitTimeout 60, TcpLastAckTimeout 30, TcpTimeWaitTimeout 120, TcpCloseTimeout 10,
  UdpTimeout 30, UdpStreamTimeout 180, IcmpTimeout 30, OtherTimeout 600
  (also accepted in the form tcp-established)

Exit code 3: the device, a group or the network namespace does not exist.

Examples:
  secgroup attach eth0 --group web --group ssh
  secgroup attach eth0 --add-group db
  secgroup attach eth0 --tcp strict
  secgroup attach tap7 --group vm --orientation guest --address 10.0.0.7
  secgroup attach eth0 --group web --netns blue --timeout TcpEstablishedTimeout=350")]
pub(super) struct Command {
    #[command(flatten)]
    interface: InterfaceArgs,
    /// Group by id or name, in place of those attached before; may be repeated: a packet passes if a rule of
    /// any group allows it [default: as attached before]
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Group to add to those of an attached interface, if it is not one of them; may be repeated
    #[arg(long = "add-group", value_name = "GROUP", conflicts_with = "groups")]
    added: Vec<String>,
    /// Group to remove from those of an attached interface, if it is one of them; may be repeated
    #[arg(long = "remove-group", value_name = "GROUP", conflicts_with = "groups")]
    removed: Vec<String>,
    /// Subnet by id; groups and network ACL are of its VPC [default: the default one, or as attached before]
    #[arg(long, value_name = "SUBNET")]
    subnet: Option<String>,
    /// Network ACL by id or name, in place of that of its subnet [default: that of its subnet, or as attached
    /// before]
    #[arg(long)]
    acl: Option<String>,
    /// Hook of the program for received packets [default: auto, or as attached before]
    #[arg(long, value_enum)]
    hook: Option<HookChoice>,
    /// Which end of the device is protected [default: host, or as attached before]
    #[arg(long, value_enum)]
    orientation: Option<Orientation>,
    /// Idle timeout of a state in seconds, 1 or more; may be repeated
    #[arg(long = "timeout", value_name = "STATE=SECONDS")]
    timeouts: Vec<String>,
    /// Frames other than IP and ARP that pass [default: control, or as attached before]
    #[arg(long, value_enum)]
    non_ip: Option<NonIp>,
    /// EtherType of frames that pass besides, by name (ptp, macsec, rarp, cfm, ...) or number (0x88f7); may
    /// be repeated; IP inside such a frame passes without a rule; none: no other type [default: as attached
    /// before]
    #[arg(long = "ether-type", value_name = "TYPE")]
    ether_types: Vec<String>,
    /// Checks of TCP segments [default: guard, or as attached before]
    #[arg(long, value_enum)]
    tcp: Option<TcpChecks>,
    /// Whether a TCP segment in the middle of a connection opens a flow if a rule allows it (on), or
    /// only a SYN does (off) [default: on, or as attached before; always off with --tcp strict]
    #[arg(long, value_enum)]
    tcp_loose: Option<Switch>,
    /// Which traffic is tracked in flows [default: auto, or as attached before]
    #[arg(long, value_enum)]
    tracking: Option<Tracking>,
    /// Enforce drops, or only count them [default: enforce, or as attached before]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Whether packets of a flow are dropped once no rule allows the flow (on), or a flow outlives its
    /// rule as in EC2 (off) [default: off, or as attached before]
    #[arg(long, value_enum)]
    revalidate: Option<Switch>,
    /// Proven TCP flows of each family that the interface can have; its other flow tables keep their
    /// proportion to this one. `default` is maps.flows_tcp of the configuration [default: that, or as
    /// attached before]
    #[arg(long, value_name = "NUMBER|default", value_parser = max_flows)]
    max_flows: Option<Limit>,
    /// Proven TCP flows of the interface that one source (an IPv4 address, or an IPv6 network of 64 bits)
    /// can have, 1 or more; its other connections pass, but stay unproven (docs/floods.md) [default: off, or
    /// as attached before]
    #[arg(long, value_name = "NUMBER|off", value_parser = max_flows_per_source)]
    max_flows_per_source: Option<Limit>,
    #[command(flatten)]
    port: PortArgs,
    /// Create no flows for connections that are open at the first attach: those that no rule allows
    /// are cut [default: each gets a flow]
    #[arg(long)]
    no_learn: bool,
    #[command(flatten)]
    safety: Safety,
}

/// A limit of flows; `None`: the word for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(Option<u32>);

fn max_flows(word: &str) -> Result<Limit, String> {
    limit(word, "default", MIN_ENTRIES)
}

fn max_flows_per_source(word: &str) -> Result<Limit, String> {
    limit(word, "off", 1)
}

fn limit(word: &str, none: &str, least: u32) -> Result<Limit, String> {
    if word == none {
        return Ok(Limit(None));
    }
    let number = word.parse().ok().filter(|number| (least..=MAX_ENTRIES).contains(number));
    number
        .map(|number| Limit(Some(number)))
        .ok_or_else(|| format!("neither {none} nor a number from {least} to {MAX_ENTRIES}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let what = format!("attach {}", self.interface.text());
        self.attach(context, &what).context(what.clone())
    }

    fn attach(self, context: &Context, what: &str) -> Result<Exit> {
        let named = self.interface.parse()?;
        let timeouts = timeouts(&self.timeouts)?;
        let port = self.port.parse()?;
        let ether_types = ether_types(&self.ether_types)?;
        // Without --group it can only be attached already.
        let mut control =
            if self.groups.is_empty() { context.control_existing()? } else { context.control()? };
        let capacity = context.config.maps.interfaces.get();
        let options = AttachOptions { learns: !self.no_learn };
        let (pins, mut warnings) = (control.pins().clone(), Vec::new());
        let made = control.attach(&self.safety.terms(what), options, |change| {
            let before = self.before(&pins, &named, change, capacity)?;
            let interface = self.edited(change.model(), before, timeouts, ether_types, port)?;
            change.put_interface(&interface)?;
            warnings = members::warnings(change);
            warnings.extend(stored_too(change, &interface));
            Ok(interface)
        })?;
        members::warn(&warnings);
        let Attachment { interface, groups, attached, learned, memory } = made;
        self.safety.remind(&control)?;
        output::lines([format!(
            "{} {}: groups {}; {} ({}), {} orientation",
            interface.id,
            interface.label(),
            groups.join(", "),
            attached.hook.name(),
            hook::why(interface.hook, attached.hook, &attached.device),
            interface.orientation.name(),
        )])?;
        if let Some((now, most)) = memory {
            let (now, most) = (output::size(now), output::size(most));
            output::lines([format!("flow tables: {now}, with all TCP flows that fit {most}")])?;
        }
        if learned.flows > 0 {
            output::lines([format!("{} open connections learned", learned.flows)])?;
        }
        if learned.left_out > 0 {
            eprintln!(
                "secgroup: {} open connections not learned, because the table of proven flows is full: \
                 `--max-flows` sets its size",
                learned.left_out
            );
        }
        Ok(Exit::Done)
    }

    /// The interface as it is attached, or a new one.
    fn before(
        &self,
        pins: &Pins,
        named: &Named,
        change: &mut Transaction<'_>,
        capacity: u32,
    ) -> Result<Interface> {
        if self.groups.is_empty() {
            named
                .of(pins, change.model())
                .context("without --group it must be attached already")?;
        }
        to_attach(pins, change, (&named.device, named.netns.as_deref()), capacity)
    }

    /// The interface with the options given now, and else those from before.
    fn edited(
        &self,
        model: &Model,
        mut interface: Interface,
        timeouts: BTreeMap<State, u32>,
        ether_types: Option<BTreeSet<EtherType>>,
        port: Port,
    ) -> Result<Interface> {
        if let Some(subnet) = &self.subnet {
            interface.subnet = model.subnet_by_id(&subnet.parse()?)?.id.clone();
        }
        self.set_groups(model, &mut interface)?;
        if let Some(acl) = &self.acl {
            let named = model.only_acl_of(&model.vpc_of(&interface), acl)?;
            let acl = named.map_or_else(|| model.acl(acl), Ok)?;
            interface.acl = model.own_acl(acl, &interface);
        }
        interface.hook = self.hook.unwrap_or(interface.hook);
        interface.orientation = self.orientation.unwrap_or(interface.orientation);
        interface.non_ip = self.non_ip.unwrap_or(interface.non_ip);
        interface.ether_types = ether_types.unwrap_or(interface.ether_types);
        interface.tcp = self.tcp.unwrap_or(interface.tcp);
        interface.tcp_loose =
            self.tcp_loose.map_or(interface.tcp_loose, |switch| switch == Switch::On);
        interface.tracking = self.tracking.unwrap_or(interface.tracking);
        interface.mode = self.mode.unwrap_or(interface.mode);
        interface.revalidate =
            self.revalidate.map_or(interface.revalidate, |switch| switch == Switch::On);
        if let Some(Limit(limit)) = self.max_flows {
            interface.max_flows = limit;
        }
        if let Some(Limit(limit)) = self.max_flows_per_source {
            interface.max_flows_per_source = limit;
        }
        if self.tcp_loose == Some(Switch::On) && interface.tcp == TcpChecks::Strict {
            return Err(UsageError {
                message: "--tcp-loose on cannot be used with --tcp strict".to_owned(),
                hint: "use --tcp guard",
            }
            .into());
        }
        interface.timeouts.extend(timeouts);
        interface.timeouts.retain(|state, seconds| *seconds != state.default_timeout());
        port.apply(&mut interface)?;
        Ok(interface)
    }

    fn set_groups(&self, model: &Model, interface: &mut Interface) -> Result<()> {
        let vpc = model.vpc_of(interface);
        let id = |word: &String| -> Result<_> {
            let here = model.group_named(&vpc, word);
            Ok(here.map_or_else(|| model.group(word), Ok)?.id.clone())
        };
        let ids = |words: &[String]| words.iter().map(id).collect::<Result<Vec<_>>>();
        if !self.groups.is_empty() {
            interface.groups = ids(&self.groups)?;
        }
        let (added, removed) = (ids(&self.added)?, ids(&self.removed)?);
        if let Some(both) = added.iter().find(|id| removed.contains(id)) {
            return Err(UsageError {
                message: format!(
                    "group {} is both added and removed",
                    model.group_by_id(both)?.name
                ),
                hint: "name it once",
            }
            .into());
        }
        for id in added {
            if !interface.groups.contains(&id) {
                interface.groups.push(id);
            }
        }
        interface.groups.retain(|id| !removed.contains(id));
        if interface.groups.is_empty() {
            return Err(UsageError {
                message: "it would have no group left".to_owned(),
                hint: "`secgroup detach` ends enforcement; a group without rules blocks all traffic",
            }
            .into());
        }
        Ok(())
    }
}

/// The types that are given; `None`: as before.
fn ether_types(words: &[String]) -> Result<Option<BTreeSet<EtherType>>> {
    match words {
        [] => Ok(None),
        [word] if word == NONE => Ok(Some(BTreeSet::new())),
        words => Ok(Some(words.iter().map(|word| word.parse()).collect::<Result<_, _>>()?)),
    }
}

/// What is stored besides, because the device or its name was that of another interface.
fn stored_too(change: &Transaction<'_>, interface: &Interface) -> Vec<String> {
    let all = change.model().interfaces.values();
    let others = all.filter(|one| {
        one.slot != interface.slot && change.before().interfaces.get(&one.slot) != Some(one)
    });
    let text = |one: &Interface| {
        format!(
            "{} stays stored, with the groups and options from before; `secgroup status` shows its device",
            one.label()
        )
    };
    others.map(text).collect()
}

fn timeouts(words: &[String]) -> Result<BTreeMap<State, u32>> {
    words.iter().map(|word| timeout(word)).collect()
}

fn timeout(word: &str) -> Result<(State, u32)> {
    let usage = |message: String, hint| UsageError { message, hint };
    let (name, seconds) = word.split_once('=').ok_or_else(|| {
        usage(
            format!("timeout {word:?} is not STATE=SECONDS"),
            "write for example TcpEstablishedTimeout=350",
        )
    })?;
    let state =
        State::ALL.iter().copied().find(|state| is_name_of(*state, name)).ok_or_else(|| {
            usage(
                format!("timeout {word:?}: unknown state {name:?}"),
                "`secgroup attach --help` lists the states",
            )
        })?;
    let seconds = seconds.parse().ok().filter(|seconds| *seconds >= 1).ok_or_else(|| {
        usage(
            format!(
                "timeout {word:?}: {seconds:?} is not a number of seconds from 1 to 4294967295"
            ),
            "write for example TcpEstablishedTimeout=350",
        )
    })?;
    Ok((state, seconds))
}

/// EC2's name of the timeout, the name of the state, or EC2's name in kebab case.
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
    fn a_limit_of_flows_is_a_number_or_a_word() {
        assert_eq!(max_flows_per_source("off"), Ok(Limit(None)));
        assert_eq!(max_flows_per_source("1"), Ok(Limit(Some(1))));
        for word in ["0", "-1", "none", "default", "16777217", "4294967297", ""] {
            assert!(max_flows_per_source(word).is_err(), "{word}");
        }
        assert_eq!(max_flows("default"), Ok(Limit(None)));
        assert_eq!(max_flows("16777216"), Ok(Limit(Some(16_777_216))));
        for word in ["15", "off", "16777217"] {
            assert!(max_flows(word).is_err(), "{word}");
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
