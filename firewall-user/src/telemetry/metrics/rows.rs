//! The rows of label values of each metric.

use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::flow::Table;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::{Reason, Verdict};

use super::{InKernel, Measured, Reading, RecordAccount, Records, StoreValues, Stored};
use crate::dataplane::flows::list::Occupancy;
use crate::model::{EndedKind, Family};
use crate::observe::flow_logs::status::Status;
use crate::observe::hits::RuleHits;
use crate::store::EndedCounts;

impl Measured {
    /// The sum of the counters that `keep` selects.
    fn sum(&self, keep: impl Fn(Direction, Reason) -> bool) -> Counter {
        let kept =
            self.counters.iter().filter(|((direction, reason), _)| keep(*direction, *reason));
        kept.fold(Counter::default(), |total, (_, one)| Counter {
            packets: total.packets + one.packets,
            bytes: total.bytes + one.bytes,
        })
    }
}

/// A field of [`Counter`].
pub(super) type Field = fn(Counter) -> u64;
pub(super) const PACKETS_FIELD: Field = |counter| counter.packets;
pub(super) const BYTES_FIELD: Field = |counter| counter.bytes;

impl Reading {
    /// A field by interface, direction and verdict.
    pub(super) fn by_verdict(&self, field: Field) -> impl Iterator<Item = ([String; 3], u64)> {
        let verdicts = [Verdict::Pass, Verdict::Drop];
        self.interfaces.iter().flat_map(move |one| {
            Direction::ALL.into_iter().flat_map(move |direction| {
                verdicts.into_iter().map(move |verdict| {
                    let keep = |d, r: Reason| d == direction && r.verdict() == verdict;
                    let labels = [one.label.as_str(), direction.name(), verdict.name()];
                    (labels.map(str::to_owned), field(one.sum(keep)))
                })
            })
        })
    }

    /// A field by interface, direction and reason, of the reasons with a verdict.
    pub(super) fn by_reason(
        &self,
        verdict: Verdict,
        field: Field,
    ) -> impl Iterator<Item = ([String; 3], u64)> {
        self.interfaces.iter().flat_map(move |one| {
            let counters = one.counters.iter();
            let chosen = counters.filter(move |((_, reason), _)| reason.verdict() == verdict);
            chosen.map(move |((direction, reason), counter)| {
                let labels = [one.label.as_str(), direction.name(), reason.name()];
                (labels.map(str::to_owned), field(*counter))
            })
        })
    }

    pub(super) fn by_table(
        &self,
        value: fn(&Occupancy) -> u64,
    ) -> impl Iterator<Item = ([String; 3], u64)> {
        self.tables.iter().filter_map(move |table| {
            let one = self.interfaces.iter().find(|one| one.slot == table.slot)?;
            let family = if table.is_v6 { Family::Ipv6 } else { Family::Ipv4 };
            let labels = [one.label.as_str(), table.table.name(), family.name()];
            Some((labels.map(str::to_owned), value(table)))
        })
    }

    /// The flows that interfaces can still track: free entries for proven TCP flows, of the family that has fewer.
    /// Nothing of an interface without tables: none of its flows is refused.
    pub(super) fn allowances(&self) -> impl Iterator<Item = ([String; 1], u64)> {
        self.interfaces.iter().filter_map(|one| {
            let tcp = |table: &&Occupancy| (table.slot, table.table) == (one.slot, Table::Tcp);
            let free = |table: &Occupancy| u64::from(table.capacity).saturating_sub(table.entries);
            let least = self.tables.iter().filter(tcp).map(free).min()?;
            Some(([one.label.clone()], least))
        })
    }

    pub(super) fn by_interface(
        &self,
        value: impl Fn(&Measured) -> u64,
    ) -> impl Iterator<Item = ([String; 1], u64)> {
        self.interfaces.iter().map(move |one| ([one.label.clone()], value(one)))
    }

    pub(super) fn by_stored(
        &self,
        value: fn(&Stored) -> Option<u64>,
    ) -> impl Iterator<Item = ([String; 1], u64)> {
        self.stored.iter().filter_map(move |one| Some(([one.label.clone()], value(one)?)))
    }

    /// Of the interfaces for which it could be read.
    pub(super) fn by_kernel(
        &self,
        value: fn(&InKernel) -> u64,
    ) -> impl Iterator<Item = ([String; 1], u64)> {
        let stored = self.stored.iter();
        stored.filter_map(move |one| Some(([one.label.clone()], value(one.kernel.as_ref()?))))
    }

    pub(super) fn info(&self) -> impl Iterator<Item = ([String; 4], u64)> {
        let labels = |one: &Stored| {
            // An empty label is one that is not there.
            let hook = one.kernel.as_ref().map_or("", |kernel| kernel.hook);
            [one.label.as_str(), one.mode, hook, &one.acl].map(str::to_owned)
        };
        self.stored.iter().map(move |one| (labels(one), 1))
    }

    pub(super) fn of_store(&self, value: fn(&StoreValues) -> u64) -> Option<([String; 0], u64)> {
        self.store.as_ref().map(|store| ([], value(store)))
    }

    pub(super) fn by_entry(&self, field: Field) -> impl Iterator<Item = ([String; 4], u64)> {
        self.entries.iter().map(move |one| (one.labels.clone(), field(one.count)))
    }

    pub(super) fn by_block(&self, field: Field) -> impl Iterator<Item = ([String; 2], u64)> {
        self.blocks.iter().map(move |one| (one.labels.clone(), field(one.count)))
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = ([String; 1], u64)> {
        let kinds = ["network", "prefix-list"];
        let counts = self.store.as_ref().map(|store| store.blocks);
        let rows = counts.into_iter().flat_map(move |counts| kinds.into_iter().zip(counts));
        rows.map(|(kind, count)| ([kind.to_owned()], count))
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = ([String; 1], u64)> {
        let counts = self.store.as_ref().map(|store| store.ended);
        counts.into_iter().flat_map(|EndedCounts { rules, acl_entries, blocks }| {
            let kinds = [
                (EndedKind::Rule, rules),
                (EndedKind::AclEntry, acl_entries),
                (EndedKind::Block, blocks),
            ];
            kinds.map(|(kind, count)| ([kind.name().to_owned()], count))
        })
    }

    pub(super) fn by_rule(&self, field: Field) -> impl Iterator<Item = ([String; 2], u64)> {
        self.rules
            .iter()
            .filter_map(move |one| Some(([one.group.clone(), one.rule.clone()], field(one.count?))))
    }

    /// What rules were used for, of those that are counted.
    pub(super) fn by_hits(
        &self,
        value: fn(&RuleHits) -> Option<u64>,
    ) -> impl Iterator<Item = ([String; 2], u64)> {
        self.rules.iter().filter_map(move |one| {
            Some(([one.group.clone(), one.rule.clone()], value(one.hits.as_ref()?)?))
        })
    }

    pub(super) fn covered(&self) -> impl Iterator<Item = ([String; 2], u64)> {
        let labels = |group: &String, rule: &String| [group.clone(), rule.clone()];
        self.rules.iter().map(move |one| (labels(&one.group, &one.rule), one.is_covered.into()))
    }

    pub(super) fn by_flow_log(
        &self,
        value: fn(&Status) -> u64,
    ) -> impl Iterator<Item = ([String; 1], u64)> {
        self.flow_logs.iter().map(move |one| ([one.id.clone()], value(&one.status)))
    }

    pub(super) fn by_account(
        &self,
        value: fn(&RecordAccount) -> u64,
    ) -> impl Iterator<Item = ([String; 2], u64)> {
        let accounts = self.records.iter().flat_map(|records| &records.accounts);
        accounts.map(move |one| ([one.interface.clone(), one.verdict.to_owned()], value(one)))
    }

    pub(super) fn of_records(
        &self,
        value: fn(&Records) -> Option<u64>,
    ) -> Option<([String; 0], u64)> {
        Some(([], value(self.records.as_ref()?)?))
    }
}

/// Milliseconds since 1970 as seconds.
pub(super) fn seconds(time: Option<i64>) -> Option<u64> {
    u64::try_from(time? / 1000).ok()
}
