//! What is known, from one reading to the next: rates, histories, and the newest records. Nothing here draws.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::state::State;

use super::sample::{CounterSample, FlowSample, Sample};
use crate::observe::query::{Checked, Query, Recorded, Subject};
use crate::observe::record::PacketRecord;

/// Readings that sparklines show at most.
const HISTORY: usize = 120;

/// Records that are kept.
const RECORDS: usize = 1000;

/// A counter.
pub(super) type Key = (String, Direction, Reason);

/// A counter with its rates.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) sample: CounterSample,
    /// Per second.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Packets per second of each reading, the newest last.
    pub(super) history: VecDeque<u64>,
}

/// An interface: sums of its counters.
#[derive(Clone, Debug, Default)]
pub(super) struct InterfaceRates {
    pub(super) label: String,
    /// Packets and bytes per second.
    pub(super) passed: (u64, u64),
    pub(super) dropped: (u64, u64),
    pub(super) passed_history: Vec<u64>,
    pub(super) dropped_history: Vec<u64>,
}

/// A flow with its rates per second.
#[derive(Clone, Debug)]
pub(super) struct Talker {
    pub(super) flow: FlowSample,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// A rule, and what uses it: live flows that it admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleUse {
    /// The group's name; of flows that no rule admitted, what did.
    pub(super) group: String,
    pub(super) rule: String,
    pub(super) flows: u64,
    /// Per second.
    pub(super) new_flows: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// By what lists are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Packets,
    Bytes,
    Name,
}

impl Sort {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Packets => Self::Bytes,
            Self::Bytes => Self::Name,
            Self::Name => Self::Packets,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Name => "name",
        }
    }

    /// The largest first; by name, the first one.
    fn sort<T>(self, all: &mut [T], key: impl Fn(&T) -> (u64, u64, String)) {
        all.sort_by_cached_key(|one| {
            let (packets, bytes, name) = key(one);
            match self {
                Self::Packets => (u64::MAX - packets, name),
                Self::Bytes => (u64::MAX - bytes, name),
                Self::Name => (0, name),
            }
        });
    }
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Board {
    at: Option<Duration>,
    counters: BTreeMap<Key, Counted>,
    talkers: Vec<Talker>,
    records: VecDeque<PacketRecord>,
    names: Recorded,
    /// Packets that no record has, since the start.
    pub(super) lost: u64,
    /// Why the last reading is not complete.
    pub(super) error: Option<String>,
}

/// Per second, rounded.
fn rate(count: u64, time: Duration) -> u64 {
    let milliseconds = time.as_millis().max(1);
    let rate = (u128::from(count) * 1000 + milliseconds / 2) / milliseconds;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl Board {
    /// The names that a filter may have.
    pub(super) const fn names(&self) -> &Recorded {
        &self.names
    }

    /// While the screen is paused, nothing else of a reading is shown.
    pub(super) fn keep_names(&mut self, sample: Sample) {
        self.names = sample.names;
    }

    /// Takes over a reading.
    pub(super) fn apply(&mut self, sample: Sample) {
        let Sample { at, counters, flows, records, lost, names, error } = sample;
        let time = self.at.replace(at).map(|before| at.saturating_sub(before));
        let mut before = std::mem::take(&mut self.counters);
        for sample in counters {
            let key = (sample.place.label.clone(), sample.direction, sample.reason);
            let known = before.remove(&key);
            // A counter that has fallen is that of another attachment.
            let (packets, bytes, mut history) = match known {
                Some(known) => (
                    sample.packets.saturating_sub(known.sample.packets),
                    sample.bytes.saturating_sub(known.sample.bytes),
                    known.history,
                ),
                None => (sample.packets, sample.bytes, VecDeque::new()),
            };
            // Without a reading before, what was counted is of any time.
            let [packets, bytes] =
                [packets, bytes].map(|count| time.map_or(0, |time| rate(count, time)));
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(packets);
            self.counters.insert(key, Counted { sample, packets, bytes, history });
        }
        let talker = |flow: FlowSample| {
            let [packets, bytes] =
                [flow.packets, flow.bytes].map(|count| time.map_or(0, |time| rate(count, time)));
            Talker { flow, packets, bytes }
        };
        self.talkers = flows.into_iter().map(talker).collect();
        for record in records {
            if self.records.len() == RECORDS {
                self.records.pop_back();
            }
            self.records.push_front(record);
        }
        self.lost = self.lost.saturating_add(lost);
        self.names = names;
        for record in &self.records {
            self.names.add(&record.into());
        }
        self.error = error;
    }

    /// The counters that a filter chooses, and whether it could choose among them: they have no addresses, so a
    /// filter on those chooses nothing, and all are shown.
    pub(super) fn reasons(&self, filter: &Checked, sort: Sort) -> (Vec<&Counted>, bool) {
        let is_filtered = is_of_counters(filter.query());
        let chosen = self.counters.values();
        let chosen = chosen.filter(|one| !is_filtered || filter.matches(&one.sample.subject()));
        let mut chosen: Vec<_> = chosen.collect();
        sort.sort(&mut chosen, |one| {
            let CounterSample { place, direction, reason, .. } = &one.sample;
            let (label, direction, reason) = (&place.label, direction.name(), reason.name());
            (one.packets, one.bytes, format!("{label} {direction} {reason}"))
        });
        (chosen, is_filtered)
    }

    /// The sums of counters by interface.
    pub(super) fn interfaces(counters: &[&Counted], sort: Sort) -> Vec<InterfaceRates> {
        let mut sums: BTreeMap<&str, InterfaceRates> = BTreeMap::new();
        for one in counters {
            let label = &one.sample.place.label;
            let sum = sums.entry(label).or_default();
            sum.label.clone_from(label);
            let (rates, history) = match one.sample.reason.verdict() {
                Verdict::Pass => (&mut sum.passed, &mut sum.passed_history),
                Verdict::Drop => (&mut sum.dropped, &mut sum.dropped_history),
            };
            rates.0 = rates.0.saturating_add(one.packets);
            rates.1 = rates.1.saturating_add(one.bytes);
            // Aligned at the newest reading.
            let missing = one.history.len().saturating_sub(history.len());
            history.splice(0..0, std::iter::repeat_n(0, missing));
            let offset = history.len() - one.history.len();
            for (sum, one) in history[offset..].iter_mut().zip(&one.history) {
                *sum = sum.saturating_add(*one);
            }
        }
        let mut all: Vec<_> = sums.into_values().collect();
        sort.sort(&mut all, |one| {
            (one.passed.0 + one.dropped.0, one.passed.1 + one.dropped.1, one.label.clone())
        });
        all
    }

    /// The flows that a filter chooses.
    pub(super) fn talkers(&self, filter: &Checked, sort: Sort) -> Vec<&Talker> {
        let chosen = self.talkers.iter().filter(|one| filter.matches(&one.flow.subject()));
        let mut chosen: Vec<_> = chosen.collect();
        sort.sort(&mut chosen, |one| {
            let FlowSample { place, source, destination, source_port, .. } = &one.flow;
            let label = &place.label;
            (one.packets, one.bytes, format!("{label} {source} {destination} {source_port:?}"))
        });
        chosen
    }

    /// How many of the chosen flows are in each state.
    pub(super) fn states(&self, filter: &Checked) -> Vec<(State, u64)> {
        let mut counts = HashMap::new();
        for one in self.talkers.iter().filter(|one| filter.matches(&one.flow.subject())) {
            *counts.entry(one.flow.state).or_default() += 1;
        }
        State::ALL.iter().filter_map(|state| Some((*state, *counts.get(state)?))).collect()
    }

    /// The rules that admitted the chosen flows.
    pub(super) fn rules(&self, filter: &Checked, sort: Sort) -> Vec<RuleUse> {
        let mut uses: BTreeMap<(&str, &str), RuleUse> = BTreeMap::new();
        for one in self.talkers.iter().filter(|one| filter.matches(&one.flow.subject())) {
            let (group, rule) = match &one.flow.rule {
                Some(rule) => (rule.group_name.as_str(), rule.security_group_rule_id.as_str()),
                None => (one.flow.otherwise, ""),
            };
            let sum = uses.entry((group, rule)).or_default();
            sum.flows += 1;
            sum.new_flows += u64::from(one.flow.is_new);
            sum.packets = sum.packets.saturating_add(one.packets);
            sum.bytes = sum.bytes.saturating_add(one.bytes);
        }
        let named = uses.into_iter().map(|((group, rule), sum)| RuleUse {
            group: group.to_owned(),
            rule: rule.to_owned(),
            ..sum
        });
        let mut all: Vec<_> = named.collect();
        sort.sort(&mut all, |one| (one.packets, one.bytes, format!("{} {}", one.group, one.rule)));
        all
    }

    /// The chosen records, the newest first.
    pub(super) fn records<'a>(
        &'a self,
        filter: &'a Checked,
    ) -> impl Iterator<Item = &'a PacketRecord> {
        self.records.iter().filter(|record| filter.matches(&Subject::from(*record)))
    }
}

/// Whether a filter has only what a counter has.
fn is_of_counters(query: &Query) -> bool {
    let Query { interface, netns, reason, direction, default_deny, not, .. } = query;
    let of_counters = Query {
        interface: interface.clone(),
        netns: netns.clone(),
        reason: reason.clone(),
        direction: direction.clone(),
        default_deny: *default_deny,
        not: *not,
        ..Query::default()
    };
    *query == of_counters
}
