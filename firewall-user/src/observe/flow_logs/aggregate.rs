//! Sums of packets by tuple, interface and aggregation interval, within bounds: what cannot have a record of its own
//! is summed by interface, direction and reason.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;

use super::record::{Action, LogStatus, Origin, Record, Why};
use crate::observe::record::RuleName;

/// How many intervals without a reading are closed one by one.
const FAR: i64 = 10;

/// How many records an interface can have in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of packets that passed.
    pub accepted: usize,
    /// Of packets that were dropped. Anybody can send those, with any addresses and ports.
    pub rejected: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { accepted: 65_536, rejected: 4096 }
    }
}

/// The 5-tuple of packets and their direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Direction.
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port; 0 where the protocol has none.
    pub destination_port: u16,
}

/// Packets of one tuple with one fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packets {
    /// Their tuple.
    pub tuple: Tuple,
    /// Whether they passed.
    pub action: Action,
    /// Why. Of a flow's packets [`Reason::NewFlow`] if the first of the flow is among them, else
    /// [`Reason::Established`].
    pub why: Why,
    /// The rule that let them pass.
    pub rule: Option<Arc<RuleName>>,
    /// How many.
    pub packets: u64,
    /// Their bytes, without the header of the link.
    pub bytes: u64,
    /// When the first one passed, in milliseconds since 1970.
    pub first: i64,
    /// When the last one did.
    pub last: i64,
    /// AWS's OR of TCP flags; 0 of other protocols.
    pub tcp_flags: u8,
}

/// Which packets of an interval are in no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Some that passed.
    pub accepted: bool,
    /// Some that were dropped.
    pub rejected: bool,
}

/// What packets are summed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tuple: Tuple,
    action: Action,
    /// `None` of a flow's packets.
    why: Option<Why>,
    rule: Option<Arc<RuleName>>,
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    packets: u64,
    bytes: u64,
    first: i64,
    last: i64,
    tcp_flags: u8,
    why: Why,
}

/// An interface in an interval.
#[derive(Debug, Default)]
struct Table {
    sums: HashMap<Key, Sum>,
    accepted: usize,
    rejected: usize,
    rest: BTreeMap<(Direction, Action, Why), Sum>,
    skipped: Skipped,
}

/// The sums of the intervals that are not over yet.
#[derive(Debug)]
pub struct Aggregator {
    /// The length of an interval in milliseconds.
    interval: i64,
    bounds: Bounds,
    /// When it began: the first interval is shorter.
    began: i64,
    /// Up to when intervals are closed.
    closed: i64,
    /// By the beginning of the interval, and the interface.
    tables: BTreeMap<i64, BTreeMap<String, Table>>,
}

/// An interval that is over.
#[derive(Debug)]
pub struct Closed {
    /// When it began, in milliseconds since 1970; the first one of an [`Aggregator`] begins with it.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    tables: BTreeMap<String, Table>,
}

impl Aggregator {
    /// One with intervals of as many seconds, which begin at multiples of them since 1970. Times are milliseconds
    /// since 1970.
    #[must_use]
    pub const fn new(seconds: u32, bounds: Bounds, now: i64) -> Self {
        let interval = seconds as i64 * 1000;
        Self { interval, bounds, began: now, closed: now, tables: BTreeMap::new() }
    }

    /// The end of the interval of a time.
    #[must_use]
    pub const fn end_of(&self, time: i64) -> i64 {
        (time.div_euclid(self.interval) + 1) * self.interval
    }

    /// Whether a time is far from the interval that is open: the clock was set, or the machine slept.
    #[must_use]
    pub const fn is_far_from(&self, now: i64) -> bool {
        now < self.closed - self.interval || now > self.next_end() + FAR * self.interval
    }

    /// The end of the first interval that is not closed.
    #[must_use]
    pub const fn next_end(&self) -> i64 {
        self.end_of(self.closed)
    }

    /// Adds packets of an interface to the interval of a time; to the first open one, if that is closed.
    pub fn add(&mut self, interface: &str, time: i64, packets: Packets) {
        let Packets { tuple, action, why, rule, packets, bytes, first, last, tcp_flags } = packets;
        let bounds = self.bounds;
        let table = self.table(interface, time);
        let sum = Sum { packets, bytes, first, last, tcp_flags, why };
        let is_of_flow = matches!(why, Why::Reason(Reason::NewFlow | Reason::Established));
        let key = Key { tuple, action, why: (!is_of_flow).then_some(why), rule };
        if let Some(known) = table.sums.get_mut(&key) {
            known.add(&sum);
            return;
        }
        let (count, bound) = match action {
            Action::Accept => (&mut table.accepted, bounds.accepted),
            Action::Reject => (&mut table.rejected, bounds.rejected),
        };
        if *count < bound {
            *count += 1;
            table.sums.insert(key, sum);
        } else {
            let rest = table.rest.entry((tuple.direction, action, why));
            rest.and_modify(|known| known.add(&sum)).or_insert(sum);
        }
    }

    /// Says that packets of an interface in the interval of a time are in no record.
    pub fn skip(&mut self, interface: &str, time: i64, skipped: Skipped) {
        let known = &mut self.table(interface, time).skipped;
        known.accepted |= skipped.accepted;
        known.rejected |= skipped.rejected;
    }

    fn table(&mut self, interface: &str, time: i64) -> &mut Table {
        let time = time.max(self.closed);
        let start = time.div_euclid(self.interval) * self.interval;
        let tables = self.tables.entry(start).or_default();
        tables.entry(interface.to_owned()).or_default()
    }

    /// The intervals that were over at a time, in their order, also those without packets.
    pub fn close(&mut self, now: i64) -> Vec<Closed> {
        let mut closed = Vec::new();
        while self.end_of(self.closed) <= now {
            let end = self.end_of(self.closed);
            closed.push(self.take(end));
        }
        closed
    }

    /// Closes every interval, the last one at a time before its end.
    pub fn end(mut self, now: i64) -> Vec<Closed> {
        let mut closed = self.close(now);
        if now > self.closed {
            closed.push(self.take(now));
        }
        closed
    }

    fn take(&mut self, end: i64) -> Closed {
        let start = self.closed;
        let first = start.div_euclid(self.interval) * self.interval;
        let tables = self.tables.remove(&first).unwrap_or_default();
        self.closed = end;
        Closed { start: start.max(self.began), end, tables }
    }
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.tcp_flags |= other.tcp_flags;
        if other.why == Why::Reason(Reason::NewFlow) {
            self.why = other.why;
        }
    }
}

/// Which packets a flow log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Those that passed.
    Accept,
    /// Those that were dropped.
    Reject,
    /// Both.
    All,
}

impl Traffic {
    /// EC2's word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "ACCEPT" => Some(Self::Accept),
            "REJECT" => Some(Self::Reject),
            "ALL" => Some(Self::All),
            _ => None,
        }
    }

    const fn has(self, action: Action) -> bool {
        matches!(
            (self, action),
            (Self::All, _) | (Self::Accept, Action::Accept) | (Self::Reject, Action::Reject)
        )
    }

    const fn misses(self, skipped: Skipped) -> bool {
        (skipped.accepted && self.has(Action::Accept))
            || (skipped.rejected && self.has(Action::Reject))
    }
}

impl Closed {
    /// Both ends of the interval in seconds since 1970.
    #[must_use]
    pub const fn seconds(&self) -> [i64; 2] {
        [self.start.div_euclid(1000), self.end.div_euclid(1000)]
    }

    /// The records of an interface, sorted: of each tuple; then the sums of what has no record of its own, with the
    /// status `SKIPDATA`; then one without counts if packets are in none of these. `NODATA` if there were no packets
    /// of any kind.
    #[must_use]
    pub fn records(&self, origin: &Arc<Origin>, traffic: Traffic) -> Vec<Record> {
        let without = |status| Record::without_packets(Arc::clone(origin), status, self.seconds());
        let Some(table) = self.tables.get(&origin.interface_id) else {
            return vec![without(LogStatus::NoData)];
        };
        let mut sums: Vec<_> =
            table.sums.iter().filter(|(key, _)| traffic.has(key.action)).collect();
        sums.sort_by(|(one, _), (other, _)| {
            (&one.tuple, one.action, one.why, &one.rule).cmp(&(
                &other.tuple,
                other.action,
                other.why,
                &other.rule,
            ))
        });
        let mut records: Vec<_> = sums
            .into_iter()
            .map(|(Key { tuple, action, rule, .. }, sum)| Record {
                source: Some(tuple.source),
                destination: Some(tuple.destination),
                source_port: Some(tuple.source_port),
                destination_port: Some(tuple.destination_port),
                protocol: Some(tuple.protocol),
                tcp_flags: Some(sum.tcp_flags),
                rule: rule.clone(),
                ..self.record(origin, LogStatus::Ok, tuple.direction, *action, sum)
            })
            .collect();
        let rest = table.rest.iter().filter(|((_, action, _), _)| traffic.has(*action));
        records.extend(rest.map(|((direction, action, _), sum)| {
            self.record(origin, LogStatus::SkipData, *direction, *action, sum)
        }));
        if traffic.misses(table.skipped) {
            records.push(without(LogStatus::SkipData));
        }
        records
    }

    /// A record without a tuple. Its times are within the interval.
    fn record(
        &self,
        origin: &Arc<Origin>,
        status: LogStatus,
        direction: Direction,
        action: Action,
        sum: &Sum,
    ) -> Record {
        let within = |time: i64| time.clamp(self.start, self.end).div_euclid(1000);
        Record {
            packets: Some(sum.packets),
            bytes: Some(sum.bytes),
            action: Some(action),
            direction: Some(direction),
            why: Some(sum.why),
            ..Record::without_packets(
                Arc::clone(origin),
                status,
                [within(sum.first), within(sum.last)],
            )
        }
    }
}
