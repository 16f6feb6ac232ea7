//! What becomes of packets, counted: by interface and kind for metrics, and of the dropped ones in the accounts of the
//! journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;

use super::account::Account;
use super::{Collector, Counters, Kind, Source};
use crate::clock::Clocks;
use crate::dataplane::records;
use crate::observe::journal;

impl Collector {
    pub(super) fn lose(&mut self, slot: u16, kind: Kind, packets: u64, counts: bool) {
        let account = self.account(slot, kind);
        account.lost += packets;
        if !counts {
            account.seen += packets;
        }
    }

    /// Begins to count: what the kernel has counted so far was another collector's.
    pub(super) fn start_counters(&mut self) -> Result<()> {
        self.counters.clear();
        let Some(Source { maps, .. }) = &self.source else { return Ok(()) };
        let read = records::accounts(maps)?;
        let snapshot = self.policies.newest().map(Arc::clone);
        for last in read {
            let slot = last.slot;
            if let Some(interface) = snapshot.as_ref().and_then(|known| known.interface(slot)) {
                let interface = interface.id.to_string();
                self.counters.insert(slot, Counters { interface, last });
            }
        }
        Ok(())
    }

    /// Adds what the kernel has counted since the last time.
    pub(super) fn count(&mut self) -> Result<()> {
        let Some(Source { maps, .. }) = &self.source else { return Ok(()) };
        let read = records::accounts(maps)?;
        let snapshot = self.policies.newest().map(Arc::clone);
        let mut present = BTreeMap::new();
        for now in read {
            let slot = now.slot;
            let known = self.counters.remove(&slot);
            if let Some(Counters { interface, last }) = &known {
                // Those of the interface that had the slot until now.
                for (kind, accounts) in self.accounts.iter_mut().enumerate() {
                    let account = accounts.entry(interface.clone()).or_default();
                    account.seen += now.seen[kind].saturating_sub(last.seen[kind]);
                    account.lost += now.lost[kind].saturating_sub(last.lost[kind]);
                }
            }
            if let Some(interface) = snapshot.as_ref().and_then(|known| known.interface(slot)) {
                let interface = interface.id.to_string();
                present.insert(slot, Counters { interface, last: now });
            }
        }
        self.counters = present;
        self.fold_accounts();
        Ok(())
    }

    /// Adds up the accounts of interfaces that are gone: otherwise there would be one for every interface that there
    /// ever was.
    fn fold_accounts(&mut self) {
        let present: BTreeSet<&str> =
            self.counters.values().map(|one| one.interface.as_str()).collect();
        for accounts in &mut self.accounts {
            let is_gone = |id: &str| !id.is_empty() && !present.contains(id);
            let gone = accounts.extract_if(.., |id, _| is_gone(id));
            let sum = gone.fold(Account::default(), |mut sum, (_, one)| {
                sum.add(one);
                sum
            });
            if sum != Account::default() {
                accounts.entry(String::new()).or_default().add(sum);
            }
        }
    }

    /// That of the interface of a slot; of one that is gone that of all such.
    pub(super) fn account(&mut self, slot: u16, kind: Kind) -> &mut Account {
        let interface = self.counters.get(&slot).map_or("", |counters| &counters.interface);
        self.accounts[kind as usize].entry(interface.to_owned()).or_default()
    }

    /// Writes to the journal what has become of the dropped packets since this was last written.
    pub(super) fn tell_account(&mut self, quiet: i64) -> Result<()> {
        let (since, earlier) = self.told;
        let now = Clocks::now().moment.wall;
        if self.told_by_now() == earlier && !self.journal.is_failing() && now - since < quiet {
            return Ok(());
        }
        let done = self.write_account(since, now, false);
        self.told.0 = now;
        done
    }

    /// What has become of the dropped packets; what is still being aggregated is told the next time.
    fn told_by_now(&self) -> Account {
        let mut sum = Account::default();
        self.accounts[Kind::Drops as usize].values().for_each(|one| sum.add(*one));
        sum.seen = sum.kept + sum.aggregated + sum.lost;
        sum
    }

    pub(super) fn write_account(&mut self, from: i64, to: i64, partial: bool) -> Result<()> {
        let sum = self.told_by_now();
        let Account { seen, kept, aggregated, lost } = sum.since(self.told.1);
        // The journal itself knows of the records that it could not write, and counts them as lost.
        let Account { kept: records, aggregated: others, .. } = std::mem::take(&mut self.unwritten);
        let account = journal::Account {
            from,
            to,
            seen,
            kept: kept + records,
            aggregated: aggregated + others,
            lost: lost.saturating_sub(records + others),
            partial,
        };
        self.told.1 = sum;
        let written = self.journal.account(account).map_err(anyhow::Error::from);
        if let Err(error) = &written {
            self.write_error = Some(format!("{error:#}"));
        }
        written
    }

    /// Tells metrics what was counted, and readers of the journal what its next account will say was lost. `problem`:
    /// why nothing can be written now.
    pub(super) fn tell_state(&mut self, problem: Option<String>) {
        self.write_error.take_if(|_| !self.journal.is_failing());
        let problem = problem.or_else(|| self.write_error.clone());
        let [drops, passes] = self.accounts.clone();
        self.hub.update(|state| {
            state.drops = drops;
            state.passes = passes;
            state.problem = problem.clone();
        });
        let lost = self.told_by_now().since(self.told.1).lost;
        self.journal.tell_open(self.told.0, Clocks::now().moment.wall, lost, problem.as_deref());
    }
}
