//! Counting what is recorded: how many packets were seen, in records of their own, in a record with others, or lost.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Packets of watched interfaces: `seen` is `kept` + `aggregated` + `lost`, and what the kernel still aggregates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// Packets that the kernel program was to record.
    pub seen: u64,
    /// Records; each stands for one packet, and for those that were aggregated with it.
    pub kept: u64,
    /// Packets that were counted in the record of an earlier packet.
    pub aggregated: u64,
    /// Packets that are in no record: beyond the rate of records, without room in the ring buffer, or because the
    /// record could not be written.
    pub lost: u64,
}

impl Account {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.seen += other.seen;
        self.kept += other.kept;
        self.aggregated += other.aggregated;
        self.lost += other.lost;
    }

    /// What was counted since an earlier reading.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            seen: self.seen.saturating_sub(earlier.seen),
            kept: self.kept.saturating_sub(earlier.kept),
            aggregated: self.aggregated.saturating_sub(earlier.aggregated),
            lost: self.lost.saturating_sub(earlier.lost),
        }
    }

    /// Packets that are still being aggregated in the kernel; 0 after a flush.
    #[must_use]
    pub const fn pending(self) -> u64 {
        self.seen.saturating_sub(self.kept + self.aggregated + self.lost)
    }

    /// Adds a record of so many packets.
    pub(super) const fn keep(&mut self, packets: u64) {
        self.kept += 1;
        self.aggregated += packets.saturating_sub(1);
    }
}

/// Accounts by interface id, so that one of a later interface in the same slot begins at 0. Those of interfaces that are
/// gone are one, with an empty id.
pub type Accounts = BTreeMap<String, Account>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_many_packets_is_one_kept_and_the_others_aggregated() {
        let mut account = Account { seen: 12, lost: 2, ..Account::default() };
        account.keep(1);
        account.keep(7);
        assert_eq!((account.kept, account.aggregated, account.pending()), (2, 6, 2));
        let earlier = Account { seen: 2, kept: 1, ..Account::default() };
        assert_eq!(account.since(earlier), Account { seen: 10, kept: 1, aggregated: 6, lost: 2 });
        let mut sum = earlier;
        sum.add(account.since(earlier));
        assert_eq!(sum, account);
    }
}
