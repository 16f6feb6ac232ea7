//! From a reading of flows and counters to what rules were used for.

use std::collections::{BTreeMap, BTreeSet};

use firewall_ebpf::abi::counter::Counter;

use super::RuleHits;
use crate::observe::flows::{Admitted, Change, Kind, Poll};

/// What is kept of a rule or entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) hits: RuleHits,
    /// The kernel's counter at the last reading.
    pub(super) counter: Counter,
    /// Flows of the last reading that the kernel's counter did not have yet.
    pub(super) ahead: u64,
}

/// A reading.
pub(super) struct Reading<'a> {
    /// When it was, in milliseconds since 1970.
    pub(super) wall: i64,
    /// Jiffies in a second.
    pub(super) hz: u64,
    /// Whether the last reading was in this boot, so that the kernel's counters go on.
    pub(super) is_same_boot: bool,
    /// The kernel's counters, read before the flows.
    pub(super) counters: &'a BTreeMap<u32, Counter>,
    /// The flows.
    pub(super) poll: &'a Poll,
}

/// What the flows of a rule counted.
#[derive(Clone, Copy, Debug, Default)]
struct OfFlows {
    new: u64,
    packets: u64,
    bytes: u64,
    first: Option<i64>,
    last: Option<i64>,
}

/// Adds a reading to rows; rules and entries that are `present` get one.
pub(super) fn count(reading: &Reading<'_>, present: &BTreeSet<u32>, rows: &mut BTreeMap<u32, Row>) {
    for number in present {
        let hits = RuleHits { since: reading.wall, ..RuleHits::default() };
        rows.entry(*number).or_insert(Row { hits, ..Row::default() });
    }
    let mut flows = of_flows(reading);
    for (number, row) in rows {
        let counter = reading.counters.get(number).copied().unwrap_or_default();
        row.add(reading, counter, flows.remove(number).unwrap_or_default());
    }
}

fn of_flows(reading: &Reading<'_>) -> BTreeMap<u32, OfFlows> {
    let mut all: BTreeMap<u32, OfFlows> = BTreeMap::new();
    for change in &reading.poll.changes {
        if !matches!(change.flow.admitted, Admitted::Rule { .. }) {
            continue;
        }
        let flow = &change.flow.entry.flow;
        let of_rule = all.entry(flow.rule).or_default();
        of_rule.new += u64::from(change.kind == Kind::New);
        of_rule.packets += change.all_packets();
        of_rule.bytes += change.all_bytes();
        let last = reading.time(flow.last_seen);
        of_rule.last = of_rule.last.max(Some(last));
        let first = began(reading, change).min(last);
        of_rule.first = Some(of_rule.first.map_or(first, |known| known.min(first)));
    }
    all
}

/// When the flow began.
fn began(reading: &Reading<'_>, change: &Change) -> i64 {
    let age = i64::try_from(change.flow.age.saturating_mul(1000)).unwrap_or(i64::MAX);
    reading.wall.saturating_sub(age)
}

impl Reading<'_> {
    /// A time of the kernel's clock, in milliseconds since 1970.
    fn time(&self, jiffies: u64) -> i64 {
        let ago = self.poll.jiffies.saturating_sub(jiffies).saturating_mul(1000) / self.hz.max(1);
        self.wall.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    }
}

impl Row {
    fn add(&mut self, reading: &Reading<'_>, counter: Counter, flows: OfFlows) {
        // It is lower when the tables or the rule's counter were created anew.
        let goes_on = reading.is_same_boot && counter.packets >= self.counter.packets;
        let before = if goes_on { self.counter } else { Counter::default() };
        let ahead = if goes_on { self.ahead } else { 0 };
        let packets = counter.packets.saturating_sub(before.packets);
        let bytes = counter.bytes.saturating_sub(before.bytes);
        self.counter = counter;
        // Those that opened a flow are in the flow's counters, too; the others passed without one, or opened a flow
        // that has ended since.
        let seen = flows.new + ahead;
        let without_flow = packets.saturating_sub(seen);
        self.ahead = seen.saturating_sub(packets).min(flows.new);
        let hits = &mut self.hits;
        hits.packets += flows.packets + without_flow;
        hits.bytes += flows.bytes + part(bytes, without_flow, packets);
        hits.new_flows += flows.new;
        let now = (without_flow > 0).then_some(reading.wall);
        hits.last = hits.last.max(flows.last).max(now);
        hits.first = hits.first.or(flows.first).or(now);
    }
}

/// Bytes of a part of packets: exact for none and for all of them.
fn part(bytes: u64, packets: u64, of: u64) -> u64 {
    let of = u128::from(of.max(1));
    u64::try_from(u128::from(bytes) * u128::from(packets) / of).unwrap_or(u64::MAX)
}

/// Removes rows of rules that no longer exist, the first ones, while there are more than `limit`.
pub(super) fn forget_deleted(rows: &mut BTreeMap<u32, Row>, present: &BTreeSet<u32>, limit: usize) {
    let deleted: Vec<u32> =
        rows.keys().filter(|number| !present.contains(number)).copied().collect();
    let excess = deleted.len().saturating_sub(limit);
    for number in &deleted[..excess] {
        rows.remove(number);
    }
}

#[cfg(test)]
mod tests;
