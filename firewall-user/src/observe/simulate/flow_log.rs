//! Connections in flow logs. A record is about one direction of an interval; all records of the same ends are one
//! connection, and what any of them says counts for all.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::wire::protocol;
use ipnet::IpNet;

use super::document::FilesCoverage;
use super::{Observation, Seen, Simulation, Source, answer};
use crate::model::{Model, rfc3339};
use crate::observe::flow_logs::files::read::{ReadError, Records, find};
use crate::observe::flow_logs::record::{Action, LogStatus, Record, Why};
use crate::observe::query::{Checked, Query, Subject};
use crate::observe::record::RuleName;
use crate::policy::Addresses;

/// Connections that are joined at a time; each takes about 300 bytes. Where there are more, those so far are compared,
/// and later records of one of them are joined anew.
const MOST_JOINED: usize = 1 << 18;

/// What is known of rules and interfaces, which tells what a record does not.
#[derive(Debug)]
pub struct Known {
    /// The directions of rules, by their ids.
    directions: HashMap<String, Direction>,
    /// By their ids.
    interfaces: HashMap<String, Interface>,
}

#[derive(Debug)]
struct Interface {
    device: String,
    netns: Option<String>,
    /// Its own addresses.
    inside: Vec<IpNet>,
}

impl Known {
    /// What a model says, with the addresses of its interfaces.
    #[must_use]
    pub fn new(model: &Model, addresses: &Addresses) -> Self {
        let rules = model.groups.values().flat_map(|group| &group.rules);
        let interfaces = model.interfaces.values().map(|interface| {
            let inside = addresses.get(&interface.slot).cloned().unwrap_or_default();
            let (device, netns) = (interface.device.clone(), interface.netns.clone());
            (interface.id.to_string(), Interface { device, netns, inside })
        });
        Self {
            directions: rules.map(|rule| (rule.id.to_string(), rule.spec.direction)).collect(),
            interfaces: interfaces.collect(),
        }
    }
}

/// The direction of packets between two addresses of which one is inside; `None` if that is none of them, or both.
fn direction(
    source: IpAddr,
    destination: IpAddr,
    is_inside: impl Fn(IpAddr) -> bool,
) -> Option<Direction> {
    match (is_inside(source), is_inside(destination)) {
        (true, false) => Some(Direction::Egress),
        (false, true) => Some(Direction::Ingress),
        _ => None,
    }
}

/// An address and a port.
type End = (IpAddr, u16);

/// What all records of a connection have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tuple {
    interface: String,
    protocol: u8,
    /// The lower one first.
    ends: [End; 2],
    action: Action,
    /// Why packets were dropped.
    why: Option<Why>,
}

/// The records of the packets that one end sent.
#[derive(Clone, Debug)]
struct Half {
    direction: Option<Direction>,
    /// Whether the end has opened the connection, by its TCP flags.
    opens: Option<bool>,
    rule: Option<Arc<RuleName>>,
    why: Option<Why>,
    records: u64,
    packets: u64,
    bytes: u64,
    /// In seconds since 1970.
    first: Option<i64>,
    last: Option<i64>,
}

impl Half {
    fn add(&mut self, record: &Record) {
        self.opens = self.opens.or_else(|| record.tcp_flags.and_then(answer::opens));
        self.direction = self.direction.or(record.direction);
        if self.rule.is_none() {
            self.rule.clone_from(&record.rule);
        }
        self.records += 1;
        self.packets = self.packets.saturating_add(record.packets.unwrap_or(0));
        self.bytes = self.bytes.saturating_add(record.bytes.unwrap_or(0));
        self.first = [self.first, record.start].into_iter().flatten().min();
        self.last = self.last.max(record.end);
    }

    const fn new(record: &Record) -> Self {
        Self {
            direction: None,
            opens: None,
            rule: None,
            why: record.why,
            records: 0,
            packets: 0,
            bytes: 0,
            first: None,
            last: None,
        }
    }
}

/// The records of both ends.
type Halves = [Option<Half>; 2];

/// Reads flow logs.
struct FlowLogs<'a> {
    known: &'a Known,
    query: &'a Checked,
    /// In milliseconds since 1970.
    since: i64,
    connections: BTreeMap<Tuple, Halves>,
    /// By interface and whether it is IPv4, the addresses that all records have of which the interface's own addresses
    /// do not tell the direction: its address may have been another one.
    common: HashMap<(String, bool), Vec<IpAddr>>,
    coverage: FilesCoverage,
    /// Of the records, in seconds since 1970.
    oldest: Option<i64>,
    newest: Option<i64>,
}

impl Simulation<'_> {
    /// Adds the connections of flow logs at paths, each a file or a directory of files, that match and have a record
    /// that ends at `since` or later, in milliseconds since 1970.
    ///
    /// # Errors
    /// A file cannot be read. Lines that are no records are counted.
    pub fn add_flow_logs(
        &mut self,
        paths: &[PathBuf],
        since: i64,
        query: &Checked,
        known: &Known,
    ) -> Result<FilesCoverage> {
        let mut logs = FlowLogs {
            known,
            query,
            since,
            connections: BTreeMap::new(),
            common: HashMap::new(),
            coverage: FilesCoverage::default(),
            oldest: None,
            newest: None,
        };
        // A direction that a file does not name is found out.
        let needed = Query { direction: Vec::new(), ..query.query().clone() };
        for path in paths {
            let files = find(path).with_context(|| format!("read {}", path.display()))?;
            for file in files {
                logs.coverage.files += 1;
                let records = Records::open(&file)?;
                logs.coverage.lacking.add(&needed, &file, records.columns());
                for record in records {
                    match record {
                        Ok(record) => logs.add(&record),
                        Err(ReadError::Line { .. }) => logs.coverage.damaged += 1,
                        Err(error) => return Err(error.into()),
                    }
                    if logs.connections.len() >= MOST_JOINED {
                        logs.compare(self);
                    }
                }
            }
        }
        logs.compare(self);
        let time = |seconds: Option<i64>| seconds.map(|one| rfc3339(milliseconds(one)));
        Ok(FilesCoverage { oldest: time(logs.oldest), newest: time(logs.newest), ..logs.coverage })
    }
}

const fn milliseconds(seconds: i64) -> i64 {
    seconds.saturating_mul(1000)
}

impl FlowLogs<'_> {
    fn add(&mut self, record: &Record) {
        if record.end.is_some_and(|end| milliseconds(end) < self.since) {
            return;
        }
        if record.status == Some(LogStatus::SkipData) {
            self.coverage.skipped += 1;
        }
        let (Some(action), Some(protocol), Some(source), Some(destination)) =
            (record.action, record.protocol, record.source, record.destination)
        else {
            self.coverage.without_packets += 1;
            return;
        };
        if record.direction.is_none() {
            self.add_common(&record.origin.interface_id, source, destination);
        }
        let from = (source, record.source_port.unwrap_or(0));
        let to = (destination, record.destination_port.unwrap_or(0));
        let (ends, sender) = if from <= to { ([from, to], 0) } else { ([to, from], 1) };
        let tuple = Tuple {
            interface: record.origin.interface_id.clone(),
            protocol,
            ends,
            action,
            why: record.why.filter(|_| action == Action::Reject),
        };
        let halves = self.connections.entry(tuple).or_default();
        if let Some(half) = halves.get_mut(sender) {
            half.get_or_insert_with(|| Half::new(record)).add(record);
        }
    }

    /// Notes the addresses of a record that the interface's own do not tell the direction of.
    fn add_common(&mut self, id: &str, source: IpAddr, destination: IpAddr) {
        let Some(interface) = self.known.interfaces.get(id) else { return };
        if direction(source, destination, |address| interface.has(address)).is_some() {
            return;
        }
        let ends = [source, destination];
        self.common
            .entry((id.to_owned(), source.is_ipv4()))
            .and_modify(|common| common.retain(|address| ends.contains(address)))
            .or_insert_with(|| ends.to_vec());
    }

    /// The direction of packets that a record without one is about.
    fn direction(&self, id: &str, source: IpAddr, destination: IpAddr) -> Option<Direction> {
        let interface = self.known.interfaces.get(id)?;
        direction(source, destination, |address| interface.has(address)).or_else(|| {
            let common = self.common.get(&(id.to_owned(), source.is_ipv4()))?;
            direction(source, destination, |address| common.contains(&address))
        })
    }

    /// Compares the connections so far.
    fn compare(&mut self, simulation: &mut Simulation<'_>) {
        for (tuple, halves) in std::mem::take(&mut self.connections) {
            match tuple.action {
                Action::Accept => self.observe(&tuple, &halves, simulation),
                // The rules decide about each packet that opens no flow, also if it was meant as an answer.
                Action::Reject => {
                    let [lower, higher] = halves;
                    for halves in [[lower, None], [None, higher]] {
                        self.observe(&tuple, &halves, simulation);
                    }
                }
            }
        }
    }

    fn observe(&mut self, tuple: &Tuple, halves: &Halves, simulation: &mut Simulation<'_>) {
        let seen: Vec<&Half> = halves.iter().flatten().collect();
        let Some(first) = seen.first() else { return };
        let [lower, higher] = tuple.ends;
        // Of the packets that the lower end sends.
        let direction = halves[0].as_ref().and_then(|half| half.direction);
        let opposite = || halves[1].as_ref()?.direction.map(Direction::opposite);
        let direction = direction
            .or_else(opposite)
            .or_else(|| self.direction(&tuple.interface, lower.0, higher.0));
        let lower_opens = self.lower_opens(tuple, halves, direction);
        let (opener, other, half) =
            if lower_opens { (lower, higher, &halves[0]) } else { (higher, lower, &halves[1]) };
        let half = half.as_ref().unwrap_or(first);
        let direction = if lower_opens { direction } else { direction.map(Direction::opposite) };
        let interface = self.known.interfaces.get(&tuple.interface);
        let has_ports = matches!(tuple.protocol, protocol::TCP | protocol::UDP);
        let subject = Subject {
            network_interface_id: &tuple.interface,
            device: interface.map_or("", |interface| &interface.device),
            netns: interface.and_then(|interface| interface.netns.as_deref()),
            direction,
            protocol: Some(tuple.protocol),
            source: Some(opener.0),
            destination: Some(other.0),
            source_port: has_ports.then_some(opener.1),
            destination_port: has_ports.then_some(other.1),
            reason: half.why.map(Why::reason),
            rule: half.rule.as_deref(),
            ..Subject::default()
        };
        let subject = match tuple.action {
            Action::Accept => subject,
            Action::Reject => answer::opened(subject, half.opens),
        };
        let either = [None, Some(Direction::Ingress), Some(Direction::Egress)];
        let is_meant = match direction {
            Some(_) => self.query.matches(&subject),
            None => either
                .into_iter()
                .any(|direction| self.query.matches(&Subject { direction, ..subject })),
        };
        if !is_meant {
            return;
        }
        let sum = |count: fn(&Half) -> u64| {
            seen.iter().fold(0_u64, |sum, half| sum.saturating_add(count(half)))
        };
        let (records, packets) = (sum(|half| half.records), sum(|half| half.packets));
        let first = seen.iter().filter_map(|half| half.first).min();
        let last = seen.iter().filter_map(|half| half.last).max();
        self.coverage.records += records;
        self.oldest = [self.oldest, first].into_iter().flatten().min();
        self.newest = self.newest.max(last);
        if matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6) {
            self.coverage.without_icmp_type += records;
        } else if interface.is_none() {
            simulation.elsewhere = simulation.elsewhere.saturating_add(packets);
        } else if direction.is_none() {
            self.coverage.without_direction += records;
        } else {
            simulation.add(&Observation {
                subject,
                source: Source::FlowLog,
                seen: match tuple.action {
                    Action::Accept => Seen::Passed,
                    Action::Reject => Seen::Dropped,
                },
                is_answered: tuple.action == Action::Reject
                    || tuple.protocol == protocol::TCP
                    || seen.len() > 1,
                records,
                packets,
                bytes: sum(|half| half.bytes),
                first: first.map(milliseconds),
                last: last.map(milliseconds),
            });
        }
    }

    /// Whether the lower end has opened a connection: by TCP flags, by the direction of the rule that let it pass, or
    /// else, as the lines of AWS say no more, because the answers come from the lower port. Of packets that were
    /// dropped, their sender did. `direction` is that of the packets of the lower end.
    fn lower_opens(&self, tuple: &Tuple, halves: &Halves, direction: Option<Direction>) -> bool {
        let [lower, higher] = halves;
        if tuple.action == Action::Reject {
            return lower.is_some();
        }
        let by_flags = |half: &Option<Half>| half.as_ref()?.opens;
        if let Some(opens) = by_flags(lower).or_else(|| by_flags(higher).map(|opens| !opens)) {
            return opens;
        }
        let rule = |half: &Option<Half>| {
            let rule = half.as_ref()?.rule.as_ref()?;
            self.known.directions.get(&rule.security_group_rule_id).copied()
        };
        if let Some((rule, direction)) = rule(lower).or_else(|| rule(higher)).zip(direction) {
            return rule == direction;
        }
        let [from, to] = tuple.ends.map(|(_, port)| port);
        if from == to {
            let began = |half: &Option<Half>| half.as_ref()?.first.or(Some(i64::MAX));
            return match (began(lower), began(higher)) {
                (Some(lower), Some(higher)) => lower <= higher,
                (lower, _) => lower.is_some(),
            };
        }
        from > to
    }
}

impl Interface {
    fn has(&self, address: IpAddr) -> bool {
        self.inside.iter().any(|network| network.contains(&address))
    }
}
