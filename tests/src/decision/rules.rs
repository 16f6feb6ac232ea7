//! Rules in the notation of the case tables, and their compiled policy in a scenario.

use firewall_user::model::{self, IcmpMatch, PortRange, Tracking};
use firewall_user::policy::CompiledPolicy;
use firewall_user::policy::{ResolvedRule, compile};
use ipnet::IpNet;

use crate::decision::deny::Ends;
use crate::decision::scenario::{Family, Outside, Role, Scenario};

/// The traffic that a rule allows.
#[derive(Clone, Copy, Debug)]
pub enum Traffic {
    /// Every protocol.
    All,
    /// TCP ports.
    Tcp(u16, u16),
    /// UDP ports.
    Udp(u16, u16),
    /// ICMP, or ICMPv6, by type and code of the family.
    Icmp {
        /// Type and code for IPv4; no code is every code.
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
    /// The network of the near host.
    Near,
    /// A network around the near host's.
    Wide,
    /// The far host's network.
    Far,
    /// Every address.
    Any,
    /// One host.
    Host(Outside),
    /// A group without members: no address.
    EmptyGroup,
}

/// A rule of a table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The end whose packets it allows.
    pub from: Role,
    /// The traffic that it allows.
    pub traffic: Traffic,
    /// The outside hosts.
    pub peer: Peer,
    /// Seconds until it ends.
    pub ends: Option<u32>,
}

impl Rule {
    /// The same rule, which ends after that many seconds.
    #[must_use]
    pub const fn ending(self, seconds: u32) -> Self {
        Self { ends: Some(seconds), ..self }
    }
}

/// A rule for the client's packets.
#[must_use]
pub const fn allow(traffic: Traffic, peer: Peer) -> Rule {
    Rule { from: Role::Client, traffic, peer, ends: None }
}

/// A rule for the server's packets.
#[must_use]
pub const fn allow_reverse(traffic: Traffic, peer: Peer) -> Rule {
    Rule { from: Role::Server, traffic, peer, ends: None }
}

/// Echo requests.
pub const ECHO: Traffic = Traffic::Icmp { v4: (8, None), v6: (128, None) };

/// The default rules of a case: one service for the near network, and in the reverse direction one
/// service in the far network.
#[must_use]
pub fn default_rules() -> Vec<Rule> {
    vec![
        allow(Traffic::Tcp(443, 443), Peer::Near),
        allow_reverse(Traffic::Tcp(5432, 5432), Peer::Far),
    ]
}

/// The rules in a scenario, numbered from 1 in the order of the table.
#[must_use]
pub fn resolved(rules: &[Rule], scenario: &Scenario) -> Vec<ResolvedRule> {
    let numbered = (1..).zip(rules);
    let resolved = numbered.map(|(number, rule)| ResolvedRule {
        // Only compared with others.
        end: rule.ends.map(u64::from),
        number,
        direction: scenario.direction(rule.from),
        traffic: traffic(rule.traffic, scenario.family),
        networks: networks(rule.peer, scenario).into(),
    });
    resolved.collect()
}

/// The compiled policy of the rules, with `Tracking::Auto`.
#[must_use]
pub fn compiled(rules: &[Rule], scenario: &Scenario) -> CompiledPolicy {
    compiled_with(rules, scenario, Tracking::Auto)
}

/// The compiled policy of the rules.
#[must_use]
pub fn compiled_with(rules: &[Rule], scenario: &Scenario, tracking: Tracking) -> CompiledPolicy {
    let policy = compile(&resolved(rules, scenario), tracking);
    policy.unwrap_or_else(|error| panic!("compile {rules:?}: {error}"))
}

/// When each rule ends, by its number.
#[must_use]
pub fn ends(rules: &[Rule]) -> Ends {
    (1..).zip(rules).filter_map(|(number, rule)| Some((number, rule.ends?))).collect()
}

/// The same of resolved rules.
#[must_use]
pub fn ends_of(rules: &[ResolvedRule]) -> Ends {
    let end = |rule: &ResolvedRule| u32::try_from(rule.end?).ok();
    rules.iter().filter_map(|rule| Some((rule.number, end(rule)?))).collect()
}

/// The rules of all scenarios together, so that they match any packet, with numbers of their own.
#[must_use]
pub fn in_all_scenarios(rules: &[Rule]) -> Vec<ResolvedRule> {
    let scenarios = Scenario::all();
    let mut all: Vec<_> = scenarios.iter().flat_map(|scenario| resolved(rules, scenario)).collect();
    for (number, rule) in (1..).zip(&mut all) {
        rule.number = number;
    }
    all
}

fn networks(peer: Peer, scenario: &Scenario) -> Vec<IpNet> {
    match peer {
        Peer::Near => vec![scenario.near()],
        Peer::Wide => vec![scenario.wide()],
        Peer::Far => vec![scenario.far()],
        Peer::Any => vec![scenario.any()],
        Peer::Host(host) => vec![scenario.outside(host).into()],
        Peer::EmptyGroup => Vec::new(),
    }
}

fn traffic(traffic: Traffic, family: Family) -> model::Traffic {
    let icmp = |(kind, code): (u8, Option<u8>)| match code {
        Some(code) => IcmpMatch::TypeCode(kind, code),
        None => IcmpMatch::Type(kind),
    };
    match (traffic, family) {
        (Traffic::All, _) => model::Traffic::All,
        (Traffic::Tcp(from, to), _) => model::Traffic::Tcp(PortRange { from, to }),
        (Traffic::Udp(from, to), _) => model::Traffic::Udp(PortRange { from, to }),
        (Traffic::Icmp { v4, .. }, Family::V4) => model::Traffic::Icmp(icmp(v4)),
        (Traffic::Icmp { v6, .. }, Family::V6) => model::Traffic::Icmpv6(icmp(v6)),
        (Traffic::Protocol(number), _) => model::Traffic::Other(number),
    }
}
