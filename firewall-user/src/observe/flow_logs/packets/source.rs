//! Where records of packets come from: the collector of this process, or the journal that another process writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::{PacketSource, Taken};
use crate::observe::collector::account::Accounts;
use crate::observe::collector::hub::{Hub, Subscription};
use crate::observe::flow_logs::aggregate::Skipped;
use crate::observe::journal::{self, Entry, Follow, JournalError, Reader};

/// Records that wait for the next reading, at most.
const QUEUE: usize = 65_536;

/// Lines of the journal that are read at once.
const BATCH: usize = 4096;

/// Records of the collector of this process.
pub struct Collected {
    hub: Arc<Hub>,
    subscription: Subscription,
    /// By interface, how many packets the collector had lost at the last reading: of those that were dropped, and of
    /// those that passed.
    lost: BTreeMap<String, [u64; 2]>,
}

impl Collected {
    /// What the collector tells the hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        let subscription = hub.subscribe(QUEUE);
        Self { hub, subscription, lost: BTreeMap::new() }
    }

    /// The interfaces whose packets were lost since the last reading.
    fn lost(&mut self, drops: &Accounts, passes: &Accounts) -> Vec<(String, Skipped)> {
        let of = |accounts: &Accounts, interface: &str| {
            accounts.get(interface).map_or(0, |account| account.lost)
        };
        let interfaces: BTreeSet<&String> = drops.keys().chain(passes.keys()).collect();
        let mut found = Vec::new();
        for interface in interfaces {
            let now = [of(drops, interface), of(passes, interface)];
            let last = self.lost.insert(interface.clone(), now).unwrap_or_default();
            let skipped = Skipped { rejected: now[0] > last[0], accepted: now[1] > last[1] };
            if skipped != Skipped::default() {
                found.push((interface.clone(), skipped));
            }
        }
        found
    }
}

impl PacketSource for Collected {
    fn take(&mut self, wants_passes: bool) -> Taken {
        self.hub.set_passes(wants_passes);
        let state = self.hub.state();
        let missed = self.subscription.take_missed() > 0;
        Taken {
            records: self.subscription.records.try_iter().collect(),
            skipped: self.lost(&state.drops, &state.passes),
            skipped_all: Skipped { accepted: missed, rejected: missed },
            collects: Skipped {
                accepted: state.is_collecting && wants_passes,
                rejected: state.is_collecting,
            },
        }
    }
}

/// Records of the journal, which the collector of another process writes: those of dropped packets.
pub struct Journalled(Follow);

impl Journalled {
    /// What is written from now on.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        Ok(Self(Reader::open(&journal::directory(state_dir))?.follow(None)?))
    }
}

impl PacketSource for Journalled {
    fn take(&mut self, _: bool) -> Taken {
        let mut taken = Taken::default();
        let unread = |follow: &Follow| (follow.missed(), follow.damaged());
        let before = unread(&self.0);
        taken.collects.rejected = loop {
            match self.0.read(BATCH) {
                Err(_) => break false,
                Ok(entries) if entries.is_empty() => break true,
                Ok(entries) => {
                    for entry in entries {
                        match entry {
                            Entry::Record(record) => taken.records.push(Arc::new(*record)),
                            Entry::Account { account } => {
                                taken.skipped_all.rejected |= account.lost > 0;
                            }
                        }
                    }
                }
            }
        };
        // Records that were deleted before they were read, or that cannot be: of any interface.
        taken.skipped_all.rejected |= unread(&self.0) != before;
        taken
    }
}

#[cfg(test)]
mod tests;
