//! Rules as a table of cases writes them down, and what the compiler makes of them in a scene.

use firewall_user::model::{IcmpMatch, PortRange, Tracking, Traffic};
use firewall_user::policy::{CompiledPolicy, ResolvedRule, compile};
use ipnet::IpNet;

use crate::decision::scene::{Family, Outside, Role, Scene};

/// What a rule allows.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Every protocol.
    All,
    /// TCP ports.
    Tcp(u16, u16),
    /// UDP ports.
    Udp(u16, u16),
    /// ICMP, or ICMPv6, by type and code of the family.
    Icmp {
        /// Type and code for IPv4; without a code every one.
        v4: (u8, Option<u8>),
        /// The same for IPv6.
        v6: (u8, Option<u8>),
    },
    /// Another protocol.
    Protocol(u8),
}

/// The other end of a rule.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// The near host's network.
    Near,
    /// A network around the near host's.
    Wide,
    /// The far host's network.
    Far,
    /// Every address.
    Any,
    /// One host.
    Host(Outside),
    /// A group without members: no address at all.
    Nobody,
}

/// A rule of a table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whose packets it allows.
    pub from: Role,
    /// Which of them.
    pub what: What,
    /// To or from which hosts outside.
    pub peer: Peer,
}

/// A rule for the client's packets.
#[must_use]
pub const fn allow(what: What, peer: Peer) -> Rule {
    Rule { from: Role::Client, what, peer }
}

/// A rule for the server's packets.
#[must_use]
pub const fn back(what: What, peer: Peer) -> Rule {
    Rule { from: Role::Server, what, peer }
}

/// Echo requests.
pub const ECHO: What = What::Icmp { v4: (8, None), v6: (128, None) };

/// The rules that a case has unless it says otherwise: one service for the near network, and the
/// other way one service for another network.
#[must_use]
pub fn usual() -> Vec<Rule> {
    vec![allow(What::Tcp(443, 443), Peer::Near), back(What::Tcp(5432, 5432), Peer::Far)]
}

/// The rules in a scene. Their numbers are their places in the table, from 1.
#[must_use]
pub fn resolved(rules: &[Rule], scene: &Scene) -> Vec<ResolvedRule> {
    let numbered = (1..).zip(rules);
    let resolved = numbered.map(|(number, rule)| ResolvedRule {
        number,
        direction: scene.direction(rule.from),
        traffic: traffic(rule.what, scene.family),
        networks: networks(rule.peer, scene),
    });
    resolved.collect()
}

/// The rules as the compiler leaves them, on an interface with the usual tracking.
#[must_use]
pub fn compiled(rules: &[Rule], scene: &Scene) -> CompiledPolicy {
    compiled_with(rules, scene, Tracking::Auto)
}

/// The rules as the compiler leaves them.
#[must_use]
pub fn compiled_with(rules: &[Rule], scene: &Scene, tracking: Tracking) -> CompiledPolicy {
    let policy = compile(&resolved(rules, scene), tracking);
    policy.unwrap_or_else(|error| panic!("compile {rules:?}: {error}"))
}

fn networks(peer: Peer, scene: &Scene) -> Vec<IpNet> {
    match peer {
        Peer::Near => vec![scene.near()],
        Peer::Wide => vec![scene.wide()],
        Peer::Far => vec![scene.far()],
        Peer::Any => vec![scene.any()],
        Peer::Host(host) => vec![scene.outside(host).into()],
        Peer::Nobody => Vec::new(),
    }
}

fn traffic(what: What, family: Family) -> Traffic {
    let icmp = |(kind, code): (u8, Option<u8>)| match code {
        Some(code) => IcmpMatch::TypeCode(kind, code),
        None => IcmpMatch::Type(kind),
    };
    match (what, family) {
        (What::All, _) => Traffic::All,
        (What::Tcp(from, to), _) => Traffic::Tcp(PortRange { from, to }),
        (What::Udp(from, to), _) => Traffic::Udp(PortRange { from, to }),
        (What::Icmp { v4, .. }, Family::V4) => Traffic::Icmp(icmp(v4)),
        (What::Icmp { v6, .. }, Family::V6) => Traffic::Icmpv6(icmp(v6)),
        (What::Protocol(number), _) => Traffic::Other(number),
    }
}
