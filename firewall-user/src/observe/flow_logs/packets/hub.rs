//! Records of packets from the collector of this process, or from the journal that another process writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BOTH, NONE, PacketSource, Taken};
use crate::observe::collector::account::Accounts;
use crate::observe::collector::hub::{Hub, Subscription};
use crate::observe::flow_logs::aggregate::Skipped;
use crate::observe::journal::{self, Entry, Follow, Reader};

/// Records that wait for the next reading, at most.
const QUEUE: usize = 65_536;

/// Lines of the journal that are read at once.
const BATCH: usize = 4096;

/// Records of the collector of this process; while another process collects, those of the journal, which has the
/// dropped packets.
pub struct Collected {
    hub: Arc<Hub>,
    subscription: Subscription,
    /// By interface, how many packets the collector had lost at the last reading: of those that were dropped, and of
    /// those that passed.
    lost: BTreeMap<String, [u64; 2]>,
    journal: PathBuf,
    follow: Option<Follow>,
}

impl Collected {
    /// What the hub of this process tells. `state_dir`: of the journal.
    #[must_use]
    pub fn new(hub: Arc<Hub>, state_dir: &Path) -> Self {
        let subscription = hub.subscribe(QUEUE);
        let journal = journal::directory(state_dir);
        Self { hub, subscription, lost: BTreeMap::new(), journal, follow: None }
    }

    /// The interfaces whose packets were lost since the last reading.
    fn lost(&mut self, drops: &Accounts, passes: &Accounts) -> Vec<(String, Skipped)> {
        let of = |accounts: &Accounts, interface: &str| {
            accounts.get(interface).map_or(0, |account| account.lost)
        };
        let mut found = Vec::new();
        let interfaces: std::collections::BTreeSet<_> = drops.keys().chain(passes.keys()).collect();
        for interface in interfaces {
            let now = [of(drops, interface), of(passes, interface)];
            let last = self.lost.insert(interface.clone(), now).unwrap_or_default();
            let skipped = Skipped { accepted: now[1] > last[1], rejected: now[0] > last[0] };
            if skipped != NONE {
                found.push((interface.clone(), skipped));
            }
        }
        found
    }

    /// What another process has written to the journal since the last reading.
    fn follow(&mut self, taken: &mut Taken) -> Result<(), journal::JournalError> {
        let follow = match &mut self.follow {
            Some(follow) => follow,
            None => self.follow.insert(Reader::open(&self.journal)?.follow(None)?),
        };
        loop {
            let entries = follow.read(BATCH)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                match entry {
                    Entry::Record(record) => taken.records.push(Arc::new(*record)),
                    // A share of these may have been dropped packets of any interface.
                    Entry::Account(account) if account.lost > 0 => taken.skipped_all.rejected = true,
                    _ => {}
                }
            }
        }
    }
}

impl PacketSource for Collected {
    fn take(&mut self, wants_passes: bool) -> Taken {
        let mut taken = Taken::default();
        self.hub.set_passes(wants_passes);
        let state = self.hub.state();
        taken.records.extend(self.subscription.records.try_iter());
        taken.skipped = self.lost(&state.drops, &state.passes);
        if self.subscription.take_missed() > 0 {
            taken.skipped_all = BOTH;
        }
        taken.collects = if state.is_collecting {
            self.follow = None;
            Skipped { accepted: wants_passes, rejected: true }
        } else {
            let collects = journal::is_written(&self.journal);
            let followed = collects && self.follow(&mut taken).is_ok();
            Skipped { accepted: false, rejected: followed }
        };
        taken
    }
}
