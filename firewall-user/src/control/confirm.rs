//! Changes that are rolled back unless they are confirmed in time.
//!
//! The store keeps a copy of its earlier contents until the change is confirmed or rolled back. A
//! separate process waits for the deadline (`watch`); since it can be killed, every command checks the
//! deadline too. A reboot ends the time for confirmation.

use std::borrow::Cow;
use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    Caller, Control, NotStored, NothingAttached, OtherStore, Outcome, Reconciled, Reconciliation,
    Unsettled, boot, watch,
};
use crate::config::Paths;
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::instance;
use crate::explain::{Exit, Explain};
use crate::model::Model;
use crate::store::{Pending, Store, Transaction};

/// The terms of a change.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The command that makes it.
    pub what: String,
    /// The time after which it is rolled back, unless it is confirmed.
    pub confirm: Option<Duration>,
    /// Whether it is made even if it locks its caller out.
    pub force: bool,
    /// Whose connection it must not cut otherwise.
    pub caller: Caller,
    /// It only narrows what is allowed, and may take effect later: [`Control::settle_deferred`] follows.
    pub is_deferrable: bool,
}

/// A change that is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnconfirmedChange {
    /// The command that made it.
    pub what: String,
    /// The time that is left.
    pub left: Duration,
}

impl UnconfirmedChange {
    /// The seconds that are left, rounded up.
    #[must_use]
    pub fn left_seconds(&self) -> u64 {
        self.left.as_secs() + u64::from(self.left.subsec_nanos() > 0)
    }
}

/// Another change is not confirmed yet.
#[derive(Debug, thiserror::Error)]
#[error("`{what}` is not confirmed yet")]
pub struct Unconfirmed {
    pub(super) what: String,
}

impl Explain for Unconfirmed {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("`secgroup confirm` keeps it, `secgroup rollback` undoes it; then retry".into())
    }
}

/// No change is unconfirmed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("there is no unconfirmed change")]
pub struct NothingPending;

impl Explain for NothingPending {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(
            "it was confirmed, or rolled back at its deadline: `secgroup rule list` shows the rules"
                .into(),
        )
    }

    fn exit(&self) -> Exit {
        Exit::NotFound
    }
}

/// Begins a change on these terms.
///
/// # Errors
/// Another change is not confirmed yet: the store has one copy of its earlier contents.
pub(super) fn begin<'a>(store: &'a mut Store, terms: &Terms) -> Result<Transaction<'a>> {
    let mut transaction = store.begin()?;
    if let Some(Pending { what, .. }) = transaction.pending()? {
        return Err(Unconfirmed { what }.into());
    }
    // Before the copy: a rollback does not bring it back.
    transaction.remove_ended()?;
    if terms.confirm.is_some() {
        transaction.copy_tables()?;
    }
    Ok(transaction)
}

/// Sets the deadline right before the commit, and starts the process that waits for it.
///
/// # Errors
/// The process cannot be started, so nothing would roll the change back.
pub(super) fn arm(paths: &Paths, terms: &Terms, transaction: &mut Transaction<'_>) -> Result<()> {
    let Some(time) = terms.confirm.filter(|_| transaction.edited()) else { return Ok(()) };
    let deadline =
        || -> std::io::Result<_> { Ok((boot::id()?, boot::now()?.saturating_add(time))) };
    let (boot, deadline) = deadline().context("read the clock")?;
    let deadline = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    transaction.pend(&Pending { what: terms.what.clone(), boot, deadline })?;
    watch::start(paths).context("start the process that rolls the change back")
}

/// The time that is left to confirm a change; `None` after its deadline.
pub(super) fn left(pending: &Pending) -> Result<Option<Duration>> {
    let clock = || -> std::io::Result<_> { Ok((boot::id()?, boot::now()?)) };
    let (boot, now) = clock().context("read the clock")?;
    let left = Duration::from_millis(pending.deadline).checked_sub(now);
    Ok(left.filter(|left| !left.is_zero() && boot == pending.boot))
}

impl Control {
    /// The change that is not confirmed yet, if there is one; not one that is rolled back although the store
    /// could not be written.
    ///
    /// # Errors
    /// The store or the clock cannot be read.
    pub fn unconfirmed_change(&self) -> Result<Option<UnconfirmedChange>> {
        let Some(pending) = self.store.pending()? else { return Ok(None) };
        if self.is_rolled_back(&pending) {
            return Ok(None);
        }
        Ok(left(&pending)?.map(|left| UnconfirmedChange { what: pending.what, left }))
    }

    /// Confirms the change; returns its command.
    ///
    /// # Errors
    /// [`NothingPending`], also after its deadline; or the store cannot be written, and the change is rolled
    /// back at its deadline.
    pub fn confirm(&mut self) -> Result<String> {
        self.require_pending()?;
        let _lock = self.exclusive()?;
        let Pending { what, .. } = self.store.pending()?.ok_or(NothingPending)?;
        let confirmed = self.store.delete_pending();
        confirmed.with_context(|| format!("`{what}` is to be rolled back at its deadline"))?;
        self.try_settle_ends();
        Ok(what)
    }

    /// Rolls the change back, in the kernel first; returns its command.
    ///
    /// # Errors
    /// [`NothingPending`], or the kernel refuses the earlier policies; [`NotStored`] if the store cannot be
    /// written.
    pub fn roll_back(&mut self) -> Result<String> {
        self.require_pending()?;
        let _lock = self.lock()?;
        let Pending { what, .. } = self.store.pending()?.ok_or(NothingPending)?;
        // If this process is killed, the next command goes on. Where it cannot be stored, that is reported
        // at the end.
        let now = boot::now().context("read the clock")?;
        let _ = self.store.end_pending(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        self.restore_in_kernel(self.earlier_model()?)?;
        self.store_rollback(&what)?;
        self.restore_stored()?;
        self.try_settle_ends();
        Ok(what)
    }

    /// Rolls a change back after its deadline, and reports it. Without one the lock is not taken.
    ///
    /// # Errors
    /// It cannot be rolled back, or this cannot be stored.
    pub fn roll_back_overdue(&mut self) -> Result<()> {
        if self.has_overdue_change()? { self.exclusive().map(drop) } else { Ok(()) }
    }

    /// Whether a change is to be rolled back, in the store at least: its deadline is over, or the kernel
    /// has the earlier policies already.
    ///
    /// # Errors
    /// The store or the clock cannot be read.
    pub fn has_overdue_change(&self) -> Result<bool> {
        let Some(pending) = self.store.pending()? else { return Ok(false) };
        Ok(left(&pending)?.is_none() || self.is_rolled_back(&pending))
    }

    /// Whether the kernel has the earlier policies although the store could not be written.
    fn is_rolled_back(&self, pending: &Pending) -> bool {
        self.unstored().is_ok_and(|unstored| unstored.rolled_back == Some(pending.deadline))
    }

    /// Before the lock, which a store that does not exist has not.
    fn require_pending(&self) -> Result<()> {
        if self.store.pending()?.is_some() {
            return Ok(());
        }
        // It may be in the store that is enforced.
        self.require_own_pins()?;
        Err(NothingPending.into())
    }

    /// Refuses a store that is not the one that is enforced.
    ///
    /// # Errors
    /// [`OtherStore`].
    pub fn require_own_pins(&self) -> Result<()> {
        match self.enforcer.maps() {
            Err(error) if error.is::<OtherStore>() => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until no other command is changing something, rolls a change back after its deadline, and
    /// stores what could not be stored before.
    ///
    /// # Errors
    /// [`NothingAttached`] without a store, unless what is attached is of another one; or the store does not
    /// follow the kernel.
    pub(super) fn exclusive(&mut self) -> Result<File> {
        let (lock, settled) = self.exclusive_unsettled()?;
        match settled {
            Ok(()) => Ok(lock),
            Err(error) if error.is::<NotStored>() => Err(Unsettled::new(error).into()),
            Err(error) => Err(error),
        }
    }

    /// As [`Self::exclusive`], for what goes on also if the store does not follow the kernel: that error is
    /// returned beside the lock.
    pub(super) fn exclusive_unsettled(&mut self) -> Result<(File, Result<()>)> {
        if self.store.is_absent() {
            self.enforcer.maps()?;
            return Err(NothingAttached.into());
        }
        // It has the lock.
        self.settling = None;
        let lock = self.lock()?;
        let settled = self.settle_rollback().and_then(|()| self.store_unstored());
        Ok((lock, settled))
    }

    /// As [`Self::exclusive_unsettled`], for what writes the kernel alone: the error is reported.
    pub(super) fn exclusive_in_kernel(&mut self) -> Result<File> {
        let (lock, settled) = self.exclusive_unsettled()?;
        if let Err(error) = settled {
            watch::report(&format!("{error:#}"));
        }
        Ok(lock)
    }

    /// Rolls a change back after its deadline: in the kernel, then in the store.
    fn settle_rollback(&mut self) -> Result<()> {
        let Some(pending) = self.store.pending()? else { return Ok(()) };
        let what = &pending.what;
        if !self.is_rolled_back(&pending) {
            if left(&pending)?.is_some() {
                return Ok(());
            }
            self.restore_in_kernel(self.model()?)
                .with_context(|| format!("roll back `{what}`, which was not confirmed"))?;
            watch::report(&format!("`{what}` was not confirmed in time and is rolled back"));
        }
        self.store_rollback(what)?;
        self.restore_stored()
    }

    /// Restores the earlier policies in the kernel; the store may be unable to follow.
    fn restore_in_kernel(&mut self, earlier: Model) -> Result<()> {
        // What is attached may be of another store, and then nothing of this one is enforced. After a reboot
        // the kernel has nothing, until `reconcile`.
        let is_other = self.enforcer.maps().is_err_and(|error| error.is::<OtherStore>());
        if is_other {
            watch::report(
                "the rollback changes nothing in the kernel, which has another store's policies",
            );
        } else if instance::exists(&self.enforcer.pins) {
            preflight::capabilities(Work::Programs)?;
            preflight::kernel()?;
            if earlier.interfaces.is_empty() {
                // Before the maps would be removed with the last interface: a store that cannot be written
                // would bring the change back.
                self.record_rolled_back()?;
            }
            report_failures(self.restore_model(earlier)?);
        } else {
            self.enforcer.require_bpffs_visible(&earlier)?;
        }
        Ok(())
    }

    fn record_rolled_back(&self) -> Result<()> {
        let Some(Pending { deadline, .. }) = self.store.pending()? else { return Ok(()) };
        self.record_unstored(|unstored| unstored.rolled_back = Some(deadline))
    }

    /// Restores the earlier contents of the store. Where it cannot be written, the kernel keeps a record
    /// that the change is rolled back.
    fn store_rollback(&mut self, what: &str) -> Result<()> {
        if let Err(error) = self.store.restore_pending() {
            // It fails with another store's pins, which do not need it.
            let _ = self.record_rolled_back();
            let done = format!("`{what}` is rolled back in the kernel");
            return Err(NotStored::recorded(done, error).into());
        }
        // Another store's pins have no record.
        let _ = self.record_unstored(|unstored| unstored.rolled_back = None);
        Ok(())
    }

    /// Once the store has the earlier contents: follows devices that were renamed meanwhile, which the contents
    /// may not know, and removes maps that nothing is attached to.
    fn restore_stored(&mut self) -> Result<()> {
        if instance::exists(&self.enforcer.pins)
            && !self.enforcer.maps().is_err_and(|error| error.is::<OtherStore>())
        {
            report_failures(self.restore_all(self.model()?)?);
        }
        Ok(())
    }
}

/// Reports interfaces that could not be attached as before.
fn report_failures(done: Reconciliation) {
    for Reconciled { interface, outcome, .. } in done.interfaces {
        if let Outcome::Failed(error) = outcome {
            watch::report(&format!("{}: {error:#}", interface.label()));
        }
    }
}
