//! What another configuration would do to the packets and flows that were seen.
//!
//! Rules decide about the first packet of a flow, and so this compares first packets: of live flows, of dropped
//! packets in the journal, of records of flow logs, and of packets in captures. Network ACLs and blocks decide about
//! every packet, and so they are asked about the first one and about the answer to it. What else decides (port
//! security, tracking, what needs no rule) is not simulated; packets that it decided about are counted as such.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;

use super::explain::EntryName;
use super::query::Subject;
use super::record::{NearestMiss, RuleName};
use super::untracked::Denied;
use crate::policy::{Probe, evaluate};

mod answer;
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
    /// No rule allowed them, or a network ACL or a block denied them.
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
    /// Whether the other end answers, or may do so: what it sends has to pass too.
    pub is_answered: bool,
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
    /// The numbers of the entries that deny the answer, of today and of the proposed ones: they depend on the port of
    /// the end that opens the connection.
    denies_answer: [Option<u32>; 2],
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
#[derive(Debug)]
pub struct Simulation<'a> {
    now: &'a Ruleset,
    proposed: &'a Ruleset,
    connections: BTreeMap<Key, Counted>,
    /// Packets that something else decided about.
    not_simulated: u64,
    /// Packets of interfaces that are not attached.
    elsewhere: u64,
    beyond: u64,
    /// The ports of all connections.
    ports: usize,
    /// Numbers of rules that were used, as their hits tell.
    used: BTreeSet<u32>,
}

impl<'a> Simulation<'a> {
    /// Of the configuration of today and a proposed one.
    #[must_use]
    pub const fn new(now: &'a Ruleset, proposed: &'a Ruleset) -> Self {
        Self {
            now,
            proposed,
            connections: BTreeMap::new(),
            not_simulated: 0,
            elsewhere: 0,
            beyond: 0,
            ports: 0,
            used: BTreeSet::new(),
        }
    }

    /// Adds what was seen.
    pub fn add(&mut self, seen: &Observation<'_>) {
        let subject = &seen.subject;
        let is_simulated = match (seen.seen, subject.reason) {
            (Seen::Dropped, Some(reason)) => is_default_deny(reason) || answer::is_denial(reason),
            _ => true,
        };
        let (Some(probe), Some(source), Some(destination), true) =
            (probe(subject), subject.source, subject.destination, is_simulated)
        else {
            self.not_simulated = self.not_simulated.saturating_add(seen.packets);
            return;
        };
        let interface = subject.network_interface_id;
        let answer = seen.is_answered.then(|| answer::probe(subject)).flatten();
        let denies = |rules: &Ruleset| answer.and_then(|answer| rules.denies(interface, answer));
        let key = Key {
            interface: subject.network_interface_id.to_owned(),
            direction: probe.direction,
            protocol: probe.protocol,
            source,
            destination,
            port: probe.port,
            source_of: seen.source,
            seen: seen.seen,
            denies_answer: [denies(self.now), denies(self.proposed)],
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

    /// Compares what the configurations decide about what was seen.
    #[must_use]
    pub fn compare(&self) -> Comparison {
        let mut comparison = Comparison {
            not_simulated: self.not_simulated,
            elsewhere: self.elsewhere,
            beyond: self.beyond,
            used: self.used.clone(),
            ..Comparison::default()
        };
        for (key, counted) in &self.connections {
            let [of_answer_now, of_answer] = key.denies_answer;
            let (Some(before), Some(after)) = (
                Decision::new(self.now, key, of_answer_now),
                Decision::new(self.proposed, key, of_answer),
            ) else {
                comparison.elsewhere = comparison.elsewhere.saturating_add(counted.packets);
                continue;
            };
            comparison.used.extend(&after.rules);
            comparison.compared += 1;
            let is_newly_denied = before.denied.is_none() && after.denied.is_some();
            let verdict = match (key.seen, before.is_allowed(), after.is_allowed()) {
                // A flow that no rule of today allows goes on; an entry that denies ends it.
                (Seen::Passed, false, false) if is_newly_denied => Verdict::Breaks,
                (Seen::Passed | Seen::Unknown, true, false) => Verdict::Breaks,
                (Seen::Passed, false, false) => Verdict::BrokenAlready,
                (Seen::Dropped | Seen::Unknown, false, true) => Verdict::Passes,
                (Seen::Dropped, true, true) => Verdict::PassesAlready,
                _ => Verdict::Same,
            };
            comparison.add(verdict, key, counted, (self.now, &before), (self.proposed, &after));
        }
        comparison.unused = self.proposed.unused(&comparison.used);
        comparison
    }
}

/// What a configuration decides about a connection.
struct Decision {
    /// The numbers of the rules that allow its first packet.
    rules: Vec<u32>,
    /// The block or the entry of the network ACL that denies it, or the answer to it.
    denied: Option<Denied>,
}

impl Decision {
    /// `None`: the configuration does not have the interface. `of_answer` denies the answer.
    fn new(rules: &Ruleset, key: &Key, of_answer: Option<u32>) -> Option<Self> {
        let probe = key.probe();
        let of_first = rules.denies(&key.interface, probe);
        let of_first = of_first.map(|number| Denied { number, is_answer: false });
        let of_answer = of_answer.map(|number| Denied { number, is_answer: true });
        let rules = evaluate(rules.rules(&key.interface)?, probe).collect();
        Some(Self { rules, denied: of_first.or(of_answer) })
    }

    const fn is_allowed(&self) -> bool {
        !self.rules.is_empty() && self.denied.is_none()
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
    /// Connections that passed, and that the proposed configuration does not let pass.
    pub breaks: Vec<Connection>,
    /// Connections that were dropped, and that the proposed configuration lets pass, and not that of today.
    pub passes: Vec<Connection>,
    /// Connections that were dropped, and that both let pass.
    pub passes_already: u64,
    /// Connections that passed, and that neither would let pass anew.
    pub broken_already: u64,
    /// The proposed rules that allow nothing of what was seen, each with its text.
    pub unused: Vec<(RuleName, String)>,
    /// Connections that were compared.
    pub compared: u64,
    /// Packets that neither rules, network ACLs nor blocks decided about.
    pub not_simulated: u64,
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
    /// Where no proposed rule allows them, the one that comes closest.
    pub nearest_miss: Option<NearestMiss>,
    /// The proposed block or entry of a network ACL that denies them; of those that would pass, the one of today.
    pub denied_by: Option<Denial>,
    /// Whether the live flow ends with the change: a block or an entry denies its packets, or the interface re-evaluates
    /// its flows. In EC2 a flow that no rule allows any more, and here without this, goes on until it ends by itself,
    /// and the next one cannot be opened.
    pub is_cut: bool,
}

/// What denies a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The block or the entry of a network ACL.
    pub entry: EntryName,
    /// Whether it denies the answers, not what the end sends that opens the connection.
    pub is_answer: bool,
}

impl Comparison {
    fn add(
        &mut self,
        verdict: Verdict,
        key: &Key,
        counted: &Counted,
        (now, before): (&Ruleset, &Decision),
        (proposed, after): (&Ruleset, &Decision),
    ) {
        let denial = |rules: &Ruleset, denied: Denied| {
            let entry = rules.entry(denied.number)?.clone();
            Some(Denial { entry, is_answer: denied.is_answer })
        };
        let (list, rule, denied_by) = match verdict {
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
                let of_now = || before.rules.first().and_then(|number| now.name(*number)).cloned();
                let rule = counted.rule.clone().or_else(of_now);
                let denied_by = after.denied.and_then(|denied| denial(proposed, denied));
                (&mut self.breaks, rule, denied_by)
            }
            Verdict::Passes => {
                let rule = after.rules.first().and_then(|number| proposed.name(*number));
                let denied_by = before.denied.and_then(|denied| denial(now, denied));
                (&mut self.passes, rule.cloned(), denied_by)
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
            denied_by,
            is_cut: key.source_of == Source::Live
                && (after.denied.is_some() || proposed.revalidates(&key.interface)),
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
