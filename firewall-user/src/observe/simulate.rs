//! What another configuration would do to the packets and flows that were seen.
//!
//! Rules decide about the first packet of a flow, and so this compares first packets: of live flows, of dropped
//! packets in the journal, of records of flow logs, and of packets in captures. Network ACLs, blocks and what needs no rule
//! are not simulated; packets that they decided about are counted as such.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;

use super::query::Subject;
use super::record::{NearestMiss, RuleName};
use crate::policy::{Probe, evaluate};

mod capture;
pub mod document;
mod flow_log;
mod read;
mod ruleset;

pub use flow_log::Known;
pub use ruleset::Ruleset;

/// Distinct connections that are compared; each takes about 300 bytes. More are counted.
const MOST_CONNECTIONS: usize = 1 << 18;

/// Ports that are kept to tell connections apart; beyond them every record counts as one.
const MOST_PORTS: usize = 1 << 20;

/// The packet that the rules would decide about; `None` of what is no IP packet or has no direction.
#[must_use]
pub fn probe(subject: &Subject<'_>) -> Option<Probe> {
    let direction = subject.direction?;
    let outside = match direction {
        Direction::Ingress => subject.source?,
        Direction::Egress => subject.destination?,
    };
    let icmp = subject.icmp.map(|(kind, code)| u16::from_be_bytes([kind, code]));
    let port = icmp.or(subject.destination_port).unwrap_or(0);
    Some(Probe { direction, outside, protocol: subject.protocol?, port })
}

/// Where a connection was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// It is in the flow tables.
    Live,
    /// It is a record of the journal.
    Journal,
    /// It is in a file of flow logs.
    FlowLog,
    /// It is in a capture of packets.
    Capture,
}

/// Whether the packets of a connection passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// They passed.
    Passed,
    /// No rule allowed them.
    Dropped,
    /// It is not known.
    Unknown,
}

/// Something that was seen: packets of one tuple.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Its tuple.
    pub subject: Subject<'a>,
    /// Where it was seen.
    pub source: Source,
    /// Whether it passed.
    pub seen: Seen,
    /// Live flows, or records, that say so.
    pub records: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the first packet came, in milliseconds since 1970; `None`: not known.
    pub first: Option<i64>,
    /// When the last one came.
    pub last: Option<i64>,
}

/// A connection without the port of the end that opens it: many of one client are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    interface: String,
    direction: Direction,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    source_of: Source,
    /// What was dropped once may have passed since then, and breaks.
    seen: Seen,
}

/// What was seen of connections that differ in nothing but the port of the end that opens them.
#[derive(Clone, Debug)]
struct Counted {
    device: String,
    netns: Option<String>,
    rule: Option<RuleName>,
    connections: u64,
    /// Ports of the ends that open them, which tell records of another connection from those of the same.
    ports: BTreeSet<Option<u16>>,
    records: u64,
    packets: u64,
    bytes: u64,
    first: Option<i64>,
    last: Option<i64>,
}

/// Collects what was seen, and compares two configurations.
#[derive(Debug, Default)]
pub struct Simulation {
    connections: BTreeMap<Key, Counted>,
    /// Packets that something else than a rule decided about.
    not_by_rules: u64,
    /// Packets of interfaces that are not attached.
    elsewhere: u64,
    beyond: u64,
    /// The ports of all connections.
    ports: usize,
    /// Numbers of rules that were used, as their hits tell.
    used: BTreeSet<u32>,
}

impl Simulation {
    /// Adds what was seen.
    pub fn add(&mut self, seen: &Observation<'_>) {
        let subject = &seen.subject;
        let by_rules = match (seen.seen, subject.reason) {
            (Seen::Dropped, Some(reason)) => is_default_deny(reason),
            _ => true,
        };
        let (Some(probe), Some(source), Some(destination), true) =
            (probe(subject), subject.source, subject.destination, by_rules)
        else {
            self.not_by_rules = self.not_by_rules.saturating_add(seen.packets);
            return;
        };
        let key = Key {
            interface: subject.network_interface_id.to_owned(),
            direction: probe.direction,
            protocol: probe.protocol,
            source,
            destination,
            port: probe.port,
            source_of: seen.source,
            seen: seen.seen,
        };
        let is_full = self.connections.len() >= MOST_CONNECTIONS;
        match self.connections.entry(key) {
            Entry::Vacant(_) if is_full => self.beyond = self.beyond.saturating_add(1),
            entry => {
                let counted = entry.or_insert_with(|| Counted::new(subject));
                counted.add(seen, &mut self.ports);
            }
        }
    }

    /// Adds rules that were used by something that is perhaps not among what was seen.
    pub fn add_used(&mut self, numbers: impl IntoIterator<Item = u32>) {
        self.used.extend(numbers);
    }

    /// Compares what two configurations decide about what was seen.
    #[must_use]
    pub fn compare(&self, now: &Ruleset, proposed: &Ruleset) -> Comparison {
        let mut comparison = Comparison {
            not_by_rules: self.not_by_rules,
            elsewhere: self.elsewhere,
            beyond: self.beyond,
            used: self.used.clone(),
            ..Comparison::default()
        };
        for (key, counted) in &self.connections {
            let (Some(now_rules), Some(rules)) =
                (now.rules(&key.interface), proposed.rules(&key.interface))
            else {
                comparison.elsewhere = comparison.elsewhere.saturating_add(counted.packets);
                continue;
            };
            let probe = key.probe();
            let before: Vec<u32> = evaluate(now_rules, probe).collect();
            let after: Vec<u32> = evaluate(rules, probe).collect();
            comparison.used.extend(&after);
            comparison.compared += 1;
            let verdict = match (key.seen, before.is_empty(), after.is_empty()) {
                (Seen::Passed | Seen::Unknown, false, true) => Verdict::Breaks,
                (Seen::Passed, true, true) => Verdict::BrokenAlready,
                (Seen::Dropped | Seen::Unknown, true, false) => Verdict::Passes,
                (Seen::Dropped, false, false) => Verdict::PassesAlready,
                _ => Verdict::Same,
            };
            comparison.add(verdict, key, counted, (now, &before), (proposed, &after));
        }
        comparison.unused = proposed.unused(&comparison.used);
        comparison
    }
}

/// The reasons of packets that no rule allows.
pub(super) const fn is_default_deny(reason: Reason) -> bool {
    matches!(reason, Reason::NoRule | Reason::Revoked)
}

impl Key {
    const fn probe(&self) -> Probe {
        let outside = match self.direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        };
        Probe { direction: self.direction, outside, protocol: self.protocol, port: self.port }
    }
}

impl Counted {
    fn new(subject: &Subject<'_>) -> Self {
        Self {
            device: subject.device.to_owned(),
            netns: subject.netns.map(str::to_owned),
            rule: None,
            connections: 0,
            ports: BTreeSet::new(),
            records: 0,
            packets: 0,
            bytes: 0,
            first: None,
            last: None,
        }
    }

    /// Adds what was seen; `ports` are those of all connections.
    fn add(&mut self, seen: &Observation<'_>, ports: &mut usize) {
        // A flow is a connection. Of a connection that is tried again there are several records.
        let is_new = seen.source == Source::Live || {
            let port = seen.subject.source_port;
            let is_full = *ports >= MOST_PORTS && !self.ports.contains(&port);
            is_full
                || self.ports.insert(port) && {
                    *ports += 1;
                    true
                }
        };
        self.connections += u64::from(is_new);
        self.records = self.records.saturating_add(seen.records);
        self.packets = self.packets.saturating_add(seen.packets);
        self.bytes = self.bytes.saturating_add(seen.bytes);
        self.first = [self.first, seen.first].into_iter().flatten().min();
        self.last = self.last.max(seen.last);
        if self.rule.is_none() && seen.seen == Seen::Passed {
            self.rule = seen.subject.rule.cloned();
        }
    }
}

/// What a change does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Breaks,
    Passes,
    PassesAlready,
    BrokenAlready,
    Same,
}

/// What two configurations decide about what was seen.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Connections that passed, and that no proposed rule allows.
    pub breaks: Vec<Connection>,
    /// Connections that were dropped, and that a proposed rule allows, and none of today.
    pub passes: Vec<Connection>,
    /// Connections that were dropped, and that the rules of today allow as the proposed ones do.
    pub passes_already: u64,
    /// Connections that passed, and that neither the rules of today nor the proposed ones allow.
    pub broken_already: u64,
    /// The proposed rules that allow nothing of what was seen, each with its text.
    pub unused: Vec<(RuleName, String)>,
    /// Connections that were compared.
    pub compared: u64,
    /// Packets that something else than a rule decided about.
    pub not_by_rules: u64,
    /// Packets of interfaces that are not attached.
    pub elsewhere: u64,
    /// Connections beyond the number that is compared.
    pub beyond: u64,
    used: BTreeSet<u32>,
}

/// Connections that differ in nothing but the port of the end that opens them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The interface, `eni-…`.
    pub interface: String,
    /// Its device; empty where the record does not have it.
    pub device: String,
    /// The device's named network namespace.
    pub netns: Option<String>,
    /// The first packet.
    pub probe: Probe,
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Where they were seen.
    pub seen_in: Source,
    /// Live flows, or different addresses and ports in records.
    pub connections: u64,
    /// Live flows, or records.
    pub records: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the first packet came, in milliseconds since 1970.
    pub first: Option<i64>,
    /// When the last one came.
    pub last: Option<i64>,
    /// The rule that let them pass; or the proposed one that would.
    pub rule: Option<RuleName>,
    /// The proposed rule that comes closest to allowing them.
    pub nearest_miss: Option<NearestMiss>,
    /// Whether the live flow ends with the change: the interface re-evaluates its flows. In EC2, and without this, it
    /// goes on until it ends by itself, and the next one cannot be opened.
    pub is_cut: bool,
}

impl Comparison {
    fn add(
        &mut self,
        verdict: Verdict,
        key: &Key,
        counted: &Counted,
        (now, before): (&Ruleset, &[u32]),
        (proposed, after): (&Ruleset, &[u32]),
    ) {
        let (list, rule) = match verdict {
            Verdict::Same => return,
            Verdict::PassesAlready => {
                self.passes_already += counted.connections;
                return;
            }
            Verdict::BrokenAlready => {
                self.broken_already += counted.connections;
                return;
            }
            Verdict::Breaks => {
                let of_now = || before.first().and_then(|number| now.name(*number)).cloned();
                (&mut self.breaks, counted.rule.clone().or_else(of_now))
            }
            Verdict::Passes => {
                let rule = after.first().and_then(|number| proposed.name(*number));
                (&mut self.passes, rule.cloned())
            }
        };
        list.push(Connection {
            interface: key.interface.clone(),
            device: counted.device.clone(),
            netns: counted.netns.clone(),
            probe: key.probe(),
            source: key.source,
            destination: key.destination,
            seen_in: key.source_of,
            connections: counted.connections,
            records: counted.records,
            packets: counted.packets,
            bytes: counted.bytes,
            first: counted.first,
            last: counted.last,
            rule,
            nearest_miss: proposed.nearest_miss(&key.interface, key.probe()),
            is_cut: key.source_of == Source::Live && proposed.revalidates(&key.interface),
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
