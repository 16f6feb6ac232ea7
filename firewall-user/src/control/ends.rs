//! What ends by itself. The kernel does not honour it from its end on; here it leaves the store and the tables.

use std::time::Duration;

use anyhow::Result;

use super::{Control, watch};
use crate::clock::Clocks;
use crate::dataplane::host::preflight::{self, Work};
use crate::journal;
use crate::model::{End, Ended, EndedKind, Moment};
use crate::store::Transaction;

/// What a message names of each kind; of more there is a count.
const NAMED: usize = 5;

/// Removes what has ended, before a change. While a change is not confirmed it stays: a rollback would bring it
/// back.
pub(super) fn remove_ended(transaction: &mut Transaction<'_>) -> Result<()> {
    if transaction.pending()?.is_none() {
        transaction.remove_ended()?;
    }
    Ok(())
}

/// What is to be said about it, once it is removed.
pub(super) fn messages(transaction: &Transaction<'_>) -> Vec<String> {
    let now = transaction.now();
    EndedKind::ALL.iter().filter_map(|kind| message(transaction.ended(), *kind, now)).collect()
}

/// Prints it. It goes to standard error, and from `serve` into its log.
pub(super) fn report(messages: &[String]) {
    for message in messages {
        journal::report(format_args!("{message}"));
    }
}

fn message(ended: &[Ended], kind: EndedKind, now: Moment) -> Option<String> {
    let of: Vec<&Ended> = ended.iter().filter(|one| one.kind == kind).collect();
    let first = of.first()?;
    if of.len() == 1 {
        let since = Duration::from_nanos(now.boottime.saturating_sub(first.end.boottime));
        let since = humantime::format_duration(Duration::from_secs(since.as_secs()));
        return Some(format!("{} ended {since} ago and was removed", first.text));
    }
    let mut names: Vec<_> = of.iter().take(NAMED).map(|one| one.text.clone()).collect();
    if of.len() > NAMED {
        names.push(format!("{} more", of.len() - NAMED));
    }
    Some(format!("ended and were removed: {}", names.join(", ")))
}

impl Control {
    /// Removes what has ended, and has the kernel compare the other ends with its clock as it is now, after the
    /// wall clock was set. Without either it writes nothing. The lock is held.
    ///
    /// # Errors
    /// The store or the kernel cannot be written.
    pub(super) fn settle_ends(&mut self) -> Result<()> {
        let mut transaction = self.store.begin()?;
        remove_ended(&mut transaction)?;
        if !transaction.writes() {
            return Ok(());
        }
        let messages = messages(&transaction);
        self.enforcer.require_bpffs_visible(transaction.model())?;
        let Some(maps) = self.enforcer.maps()? else {
            transaction.commit()?;
            report(&messages);
            return Ok(());
        };
        preflight::capabilities(Work::Maps)?;
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        let generation = transaction.commit()?;
        staged.flip(Some(generation))?;
        report(&messages);
        Ok(())
    }

    /// As [`Self::settle_ends`], in the store alone: what it has is written into the kernel afterwards. A store
    /// that cannot be written keeps it.
    pub(super) fn settle_stored_ends(&mut self) {
        let mut settle = || -> Result<Vec<String>> {
            if self.store.model()?.next_ends().is_empty() {
                return Ok(Vec::new());
            }
            let mut transaction = self.store.begin()?;
            remove_ended(&mut transaction)?;
            let messages = messages(&transaction);
            if transaction.writes() {
                transaction.commit()?;
            }
            Ok(messages)
        };
        match settle() {
            Ok(messages) => report(&messages),
            Err(error) => watch::report(&format!("what has ended is not removed: {error:#}")),
        }
    }

    /// As [`Self::settle_ends`], if something has ended, for a command that does not depend on it: its error is
    /// reported.
    pub(super) fn try_settle_ends(&mut self) {
        let is_due = |ends: Vec<End>| until_first(&ends).is_some_and(|left| left.is_zero());
        let mut settle = || {
            if is_due(self.store.model()?.next_ends()) { self.settle_ends() } else { Ok(()) }
        };
        if let Err(error) = settle() {
            watch::report(&format!("what has ended is not removed: {error:#}"));
        }
    }

    /// Waits until no other command changes something, then removes what has ended.
    ///
    /// # Errors
    /// The store or the kernel cannot be written.
    pub fn remove_ended(&mut self) -> Result<()> {
        let _lock = self.exclusive()?;
        self.settle_ends()
    }
}

/// The time until the first of some ends, by the clocks as they are now; zero if an end by the wall clock comes
/// at another time since the boot than it was told the kernel.
#[must_use]
pub fn until_first(ends: &[End]) -> Option<Duration> {
    let now = Clocks::now().moment;
    let left = ends.iter().map(|end| {
        let is_told = end.adjusted(now).boottime == end.boottime;
        if is_told {
            Duration::from_nanos(end.boottime.saturating_sub(now.boottime))
        } else {
            Duration::ZERO
        }
    });
    left.min()
}
