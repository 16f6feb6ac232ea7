//! Sums and rates of flows.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Change, LiveFlow, Poll};
use crate::observe::query::Checked;

/// What flows are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Name of the group whose rule admitted the flow
    Group,
    /// Id of the rule that admitted it
    Rule,
    /// State (docs/states.md)
    State,
    /// Interface
    Interface,
    /// Address of the other end
    Address,
}

impl By {
    /// The value of a flow; of one that no rule admitted `-`.
    #[must_use]
    pub fn key(self, flow: &LiveFlow) -> String {
        let of_rule = |name: Option<&String>| name.map_or_else(|| "-".to_owned(), String::clone);
        match self {
            Self::Group => of_rule(flow.rule().map(|rule| &rule.group_name)),
            Self::Rule => of_rule(flow.rule().map(|rule| &rule.security_group_rule_id)),
            Self::State => flow.state.name().to_owned(),
            Self::Interface => flow.place.label.clone(),
            Self::Address => flow.entry.outside.to_string(),
        }
    }
}

/// The flows that have a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Total {
    /// The value.
    pub key: String,
    /// Number of flows.
    pub flows: usize,
    /// Their packets of direction ingress.
    pub ingress_packets: u64,
    /// Their packets of direction egress.
    pub egress_packets: u64,
    /// Their bytes of whole frames of direction ingress.
    pub ingress_bytes: u64,
    /// Their bytes of whole frames of direction egress.
    pub egress_bytes: u64,
}

impl Total {
    fn add(&mut self, [ingress_packets, egress_packets]: [u64; 2], [ingress, egress]: [u64; 2]) {
        self.flows += 1;
        self.ingress_packets = self.ingress_packets.saturating_add(ingress_packets);
        self.egress_packets = self.egress_packets.saturating_add(egress_packets);
        self.ingress_bytes = self.ingress_bytes.saturating_add(ingress);
        self.egress_bytes = self.egress_bytes.saturating_add(egress);
    }

    /// Packets by direction.
    #[must_use]
    pub const fn packets_of(&self) -> [u64; 2] {
        [self.ingress_packets, self.egress_packets]
    }

    /// Bytes by direction.
    #[must_use]
    pub const fn bytes_of(&self) -> [u64; 2] {
        [self.ingress_bytes, self.egress_bytes]
    }
}

/// The sums of flows by a value, most flows first.
#[must_use]
pub fn totals<'a>(by: By, flows: impl IntoIterator<Item = &'a LiveFlow>) -> Vec<Total> {
    let counted = flows.into_iter().map(|flow| {
        let counters = &flow.entry.flow;
        (by.key(flow), counters.packets, counters.bytes)
    });
    let mut totals = sums(counted);
    totals.sort_by(|one, two| two.flows.cmp(&one.flows).then_with(|| one.key.cmp(&two.key)));
    totals
}

fn sums(counted: impl Iterator<Item = (String, [u64; 2], [u64; 2])>) -> Vec<Total> {
    let mut sums: BTreeMap<String, Total> = BTreeMap::new();
    for (key, packets, bytes) in counted {
        sums.entry(key).or_default().add(packets, bytes);
    }
    sums.into_iter().map(|(key, total)| Total { key, ..total }).collect()
}

/// Packets and bytes each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Rate {
    /// Packets of direction ingress each second.
    pub ingress_packets_per_second: f64,
    /// Packets of direction egress each second.
    pub egress_packets_per_second: f64,
    /// Bytes of direction ingress each second.
    pub ingress_bytes_per_second: f64,
    /// Bytes of direction egress each second.
    pub egress_bytes_per_second: f64,
}

impl Rate {
    /// What was counted in a time, by direction.
    #[must_use]
    pub fn of(packets: [u64; 2], bytes: [u64; 2], time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(0.001);
        // Above 2^53 the digits that are lost are far below those that a reading loses.
        #[expect(clippy::cast_precision_loss, reason = "a rate has few significant digits")]
        let rate = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
        Self {
            ingress_packets_per_second: rate(packets[0]),
            egress_packets_per_second: rate(packets[1]),
            ingress_bytes_per_second: rate(bytes[0]),
            egress_bytes_per_second: rate(bytes[1]),
        }
    }
}

/// The flows with the highest rates between two readings.
#[derive(Clone, Debug, Default)]
pub struct Top {
    /// The time between the readings.
    pub interval: Duration,
    /// Packets of all flows that match, by direction.
    pub packets: [u64; 2],
    /// Their bytes.
    pub bytes: [u64; 2],
    /// Those with the most bytes, most first.
    pub flows: Vec<Change>,
    /// The sums by value, most bytes first, in place of flows.
    pub by: Vec<Total>,
}

impl Top {
    /// Of the flows of a reading that match, those that had packets; at most `limit` of them or of their sums.
    #[must_use]
    pub fn new(poll: Poll, query: &Checked, by: Option<By>, limit: usize) -> Self {
        let mut top = Self { interval: poll.since_last.unwrap_or_default(), ..Self::default() };
        let had_packets =
            |one: &Change| one.all_packets() > 0 && query.matches(&one.flow.subject());
        let mut flows: Vec<Change> = poll.changes.into_iter().filter(had_packets).collect();
        for one in &flows {
            for direction in 0..2 {
                top.packets[direction] += one.packets[direction];
                top.bytes[direction] += one.bytes[direction];
            }
        }
        if let Some(by) = by {
            top.by = sums(flows.iter().map(|one| (by.key(&one.flow), one.packets, one.bytes)));
            top.by.sort_by(|one, two| {
                let bytes = |total: &Total| Reverse(total.bytes_of().iter().sum::<u64>());
                bytes(one).cmp(&bytes(two)).then_with(|| one.key.cmp(&two.key))
            });
            top.by.truncate(limit);
            return top;
        }
        flows.sort_by_key(|one| {
            let tuple = (one.flow.entry.inside, one.flow.entry.outside);
            let ports = (one.flow.entry.inside_port, one.flow.entry.outside_port);
            (Reverse(one.all_bytes()), one.flow.entry.slot, tuple, ports)
        });
        flows.truncate(limit);
        Self { flows, ..top }
    }
}
