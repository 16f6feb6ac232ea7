//! Refusing changes that would lock their caller out.
//!
//! The criterion is whether the caller could connect again: a tracked flow continues without its rule,
//! but the next login would fail. Network ACLs and blocks end open connections too.

mod cut;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::wire::protocol;
use ipnet::IpNet;

use super::boot;
use super::enforcement::present_device;
use super::enforcer::Enforcer;
use super::ssh::{self, Connection, Netns};
use crate::dataplane::Pins;
use crate::dataplane::host::{netns, routes};
use crate::explain::Explain;
use crate::model::{Interface, Mode, Model, Tracking};
use crate::policy::{Probe, ResolvedRule, active_rules, evaluate, is_untracked};
use cut::{Cut, Cuts, remedy};

/// The change would lock its caller out.
#[derive(Debug, thiserror::Error)]
#[error(
    "this would lock you out: your {}connection {connection} arrives on {interface}, {breakage}",
    if *is_ssh { "SSH " } else { "" }
)]
pub struct LockedOut {
    is_ssh: bool,
    connection: Connection,
    interface: String,
    group: String,
    breakage: Breakage,
}

/// The reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Breakage {
    #[error("and no rule there would allow a new one")]
    NoRule,
    #[error("which has no flow, and with --tcp-loose off only a SYN opens one")]
    NoFlow,
    /// With what would keep it open.
    #[error("{0}")]
    Cut(Cut, String),
}

impl Explain for LockedOut {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let Self { is_ssh, connection: Connection { client, server, .. }, group, breakage, .. } =
            self;
        if !is_ssh {
            return Some(self.hint_of_client().into());
        }
        let length = if client.is_ipv4() { 32 } else { 128 };
        Some(match breakage {
            Breakage::NoRule => format!(
                "`secgroup rule add {group} ingress --protocol tcp --port {} --cidr {}/{length}` \
                 allows it; --force makes the change anyway",
                server.port(),
                client.ip()
            )
            .into(),
            Breakage::NoFlow => {
                "`--tcp-loose on` keeps it open; --force makes the change anyway, then log in \
                 again"
                    .into()
            }
            Breakage::Cut(_, remedy) => format!("{remedy}; --force makes the change anyway").into(),
        })
    }
}

impl LockedOut {
    fn hint_of_client(&self) -> String {
        let Self { connection: Connection { client, server, .. }, group, breakage, .. } = self;
        let keeps = match breakage {
            Breakage::NoRule => format!(
                "an ingress rule of {group} for TCP port {} from {} keeps it open",
                server.port(),
                IpNet::from(client.ip())
            ),
            Breakage::NoFlow => "`--tcp-loose on` keeps it open".to_owned(),
            Breakage::Cut(_, remedy) => remedy.clone(),
        };
        format!("{keeps}; on the host itself, `secgroup` with --force makes such a change")
    }
}

/// Whose connection to this host a change must not cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// That of this process: the SSH connection that it was run over.
    #[default]
    Process,
    /// That of a client of this process: its end, and the one on this host. `None` if it does not come over
    /// TCP.
    Client(Option<(SocketAddr, SocketAddr)>),
}

impl Caller {
    /// The connection, and the network namespace of its end on this host.
    fn connection(self) -> Option<(Connection, Netns)> {
        let ends = match self {
            Self::Process => return ssh::own_connection(),
            Self::Client(ends) => ends,
        };
        let end = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (client, server) = ends.map(|(client, server)| (end(client), end(server)))?;
        if client.ip().is_loopback() || server.ip().is_loopback() {
            return None;
        }
        let place = ssh::netns(Path::new("/proc/self/ns/net"))?;
        Some((Connection { client, server, device: None }, place))
    }
}

/// An interface with its rules.
type Policy<'a> = (&'a Interface, &'a [ResolvedRule]);

/// Refuses a change that would lock its caller out. `learns`: connections that are open when an
/// interface is attached get a flow.
///
/// # Errors
/// [`LockedOut`], or netlink fails.
pub(super) fn check(
    enforcer: &Enforcer,
    caller: Caller,
    (before, after): (&Model, &Model),
    learns: bool,
) -> Result<()> {
    let Some((connection, place)) = caller.connection() else { return Ok(()) };
    let (pins, is_ssh) = (&enforcer.pins, caller == Caller::Process);
    let probe = probe(&connection);
    let (members_before, members_after) = (enforcer.addresses(before)?, enforcer.addresses(after)?);
    let now = boot::nanoseconds()?;
    let cuts = [before, after].map(|model| Cuts::new(model, &connection, now));
    for interface in after.interfaces.values() {
        let rules = active_rules(after, &members_after, interface);
        if interface.mode == Mode::Audit && !after.is_panicking {
            // It drops nothing.
            continue;
        }
        let was = before.interfaces.get(&interface.slot).filter(|was| was.id == interface.id);
        // In audit mode nothing was dropped.
        let dropped = was.filter(|was| was.mode == Mode::Enforce || before.is_panicking);
        let was_cut = dropped.is_some_and(|was| cuts[0].on(was).is_some());
        if !was_cut
            && let Some(cut) = cuts[1].on(interface)
            && carries(pins, interface, &connection, place)?
        {
            let remedy = remedy(&cut, &connection, (before, after));
            let (interface, group) = (interface.label(), String::new());
            let breakage = Breakage::Cut(cut, remedy);
            let connection = connection.clone();
            return Err(LockedOut { is_ssh, connection, interface, group, breakage }.into());
        }
        let old = was.map(|was| (was, active_rules(before, &members_before, was)));
        let old = old.as_ref().map(|(was, rules)| (*was, &rules[..]));
        if old == Some((interface, &rules[..])) {
            continue;
        }
        if let Some(breakage) = breakage(old, (interface, &rules), learns, probe)
            && carries(pins, interface, &connection, place)?
        {
            let group = interface.groups.first().and_then(|id| after.groups.get(id));
            let group = group.map_or_else(String::new, |group| group.name.clone());
            return Err(LockedOut {
                is_ssh,
                connection: connection.clone(),
                interface: interface.label(),
                group,
                breakage,
            }
            .into());
        }
    }
    Ok(())
}

/// The first packet of a new connection like this one.
fn probe(connection: &Connection) -> Probe {
    Probe {
        direction: Direction::Ingress,
        outside: connection.client.ip(),
        protocol: protocol::TCP,
        port: connection.server.port(),
    }
}

/// Why a change breaks a connection; `None` if it does not, or if the rules did not admit it before.
fn breakage(
    before: Option<Policy<'_>>,
    (interface, rules): Policy<'_>,
    learns: bool,
    probe: Probe,
) -> Option<Breakage> {
    let admits = |rules| evaluate(rules, probe).next().is_some();
    let needs_no_flow = |(interface, rules): Policy<'_>| {
        interface.tracking == Tracking::Auto && is_untracked(rules, probe)
    };
    if before.is_some_and(|(_, rules)| !admits(rules)) {
        return None;
    }
    if !admits(rules) {
        return Some(Breakage::NoRule);
    }
    let had_flow = before.map_or(learns, |before| !needs_no_flow(before));
    let is_broken = !had_flow && !needs_no_flow((interface, rules)) && !interface.is_tcp_loose();
    is_broken.then_some(Breakage::NoFlow)
}

/// Whether a connection's packets go through an interface's device.
fn carries(
    pins: &Pins,
    interface: &Interface,
    connection: &Connection,
    place: Netns,
) -> Result<bool> {
    let Some(found) = present_device(pins, interface)? else { return Ok(false) };
    let (netns, orientation) = (&found.netns, interface.orientation);
    let file =
        netns.as_ref().map_or_else(|| Path::new("/proc/self/ns/net").into(), |n| netns::path(n));
    // A connection of the host does not go through the device of a guest.
    if orientation == Orientation::Guest || ssh::netns(&file) != Some(place) {
        return Ok(false);
    }
    if let Some(name) = &connection.device {
        return Ok(found.is_named(name));
    }
    let ends = (connection.server.ip(), connection.client.ip());
    let device = routes::devices(netns.as_deref(), [ends])?.get(&ends).copied();
    // Replies may leave by another device than requests arrive by, but not by the loopback device, whose
    // index is 1 in every namespace.
    Ok(device.is_some_and(|index| found.carries(index))
        || (device != Some(1) && found.addresses.contains(&ends.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InterfaceId, PortRange, Traffic};

    fn interface(tcp_loose: bool) -> Interface {
        let id = InterfaceId::random().unwrap();
        Interface { tcp_loose, ..Interface::new(id, 0, "eth0", None) }
    }

    fn rule(direction: Direction, port: Option<u16>, network: &str) -> ResolvedRule {
        let traffic =
            port.map_or(Traffic::All, |port| Traffic::Tcp(PortRange { from: port, to: port }));
        ResolvedRule {
            number: 1,
            direction,
            traffic,
            networks: network.parse::<IpNet>().unwrap().into(),
            end: None,
        }
    }

    #[test]
    fn only_a_caller_that_could_connect_is_locked_out() {
        let probe = Probe {
            direction: Direction::Ingress,
            outside: "192.0.2.7".parse().unwrap(),
            protocol: 6,
            port: 22,
        };
        let all_out = || rule(Direction::Egress, None, "0.0.0.0/0");
        let ssh = |network| rule(Direction::Ingress, Some(22), network);
        let none: Vec<ResolvedRule> = vec![all_out()];
        let (mine, others) = (vec![ssh("192.0.2.0/24")], vec![ssh("198.51.100.0/24")]);
        let (anyone, anyone_untracked) =
            (vec![ssh("0.0.0.0/0")], vec![ssh("0.0.0.0/0"), all_out()]);
        let (on, off) = (interface(true), interface(false));
        let result =
            |before: Option<Policy<'_>>, after, learns| breakage(before, after, learns, probe);
        for (before, after, learns, expected) in [
            // A first attach.
            (None, (&on, &none), true, Some(Breakage::NoRule)),
            (None, (&on, &others), true, Some(Breakage::NoRule)),
            (None, (&on, &mine), true, None),
            (None, (&off, &mine), true, None),
            (None, (&on, &mine), false, None),
            (None, (&off, &mine), false, Some(Breakage::NoFlow)),
            (None, (&off, &anyone_untracked), false, None),
            // A change of rules.
            (Some((&on, &mine)), (&on, &none), true, Some(Breakage::NoRule)),
            (Some((&on, &mine)), (&on, &anyone), true, None),
            (Some((&on, &none)), (&on, &others), true, None),
            (Some((&off, &mine)), (&off, &anyone), true, None),
            // A connection that was untracked needs a flow now.
            (Some((&on, &anyone_untracked)), (&on, &mine), true, None),
            (Some((&off, &anyone_untracked)), (&off, &mine), true, Some(Breakage::NoFlow)),
            (Some((&off, &anyone_untracked)), (&off, &anyone_untracked), true, None),
        ] {
            let before = before.map(|(one, rules): (_, &Vec<_>)| (one, &rules[..]));
            assert_eq!(result(before, (after.0, &after.1[..]), learns), expected, "{after:?}");
        }
    }
}
