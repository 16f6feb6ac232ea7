//! Changes that are rolled back unless they are confirmed in time.
//!
//! The store keeps a copy of its earlier contents until the change is confirmed or rolled back. A
//! separate process waits for the deadline (`watch`); since it can be killed, every command checks the
//! deadline too. A reboot ends the time for confirmation.

use std::borrow::Cow;
use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Control, NothingAttached, OtherStore, Outcome, Reconciled, boot, watch};
use crate::config::Paths;
use crate::dataplane::instance;
use crate::explain::{Exit, Explain};
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
}

/// A change that is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnconfirmedChange {
    /// The command that made it.
    pub what: String,
    /// The time that is left; 0 if it is about to be rolled back.
    pub left: Duration,
}

/// Another change is not confirmed yet.
#[derive(Debug, thiserror::Error)]
#[error("`{what}` is not confirmed yet")]
pub struct Unconfirmed {
    what: String,
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
    let Some(time) = terms.confirm else { return Ok(()) };
    let deadline =
        || -> std::io::Result<_> { Ok((boot::id()?, boot::now()?.saturating_add(time))) };
    let (boot, deadline) = deadline().context("read the clock")?;
    let deadline = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    transaction.pend(&Pending { what: terms.what.clone(), boot, deadline })?;
    watch::start(paths).context("start the process that rolls the change back")
}

/// The time that is left to confirm a change; `None` after its deadline.
fn left(pending: &Pending) -> Result<Option<Duration>> {
    let clock = || -> std::io::Result<_> { Ok((boot::id()?, boot::now()?)) };
    let (boot, now) = clock().context("read the clock")?;
    let left = Duration::from_millis(pending.deadline).checked_sub(now);
    Ok(left.filter(|left| !left.is_zero() && boot == pending.boot))
}

impl Control {
    /// The change that is not confirmed yet, if there is one.
    ///
    /// # Errors
    /// The store or the clock cannot be read.
    pub fn unconfirmed_change(&self) -> Result<Option<UnconfirmedChange>> {
        let Some(pending) = self.store.pending()? else { return Ok(None) };
        let left = left(&pending)?.unwrap_or_default();
        Ok(Some(UnconfirmedChange { what: pending.what, left }))
    }

    /// Confirms the change; returns its command.
    ///
    /// # Errors
    /// [`NothingPending`], also after its deadline.
    pub fn confirm(&mut self) -> Result<String> {
        self.require_pending()?;
        let _lock = self.exclusive()?;
        let pending = self.store.pending()?.ok_or(NothingPending)?;
        self.store.delete_pending()?;
        Ok(pending.what)
    }

    /// Rolls the change back; returns its command.
    ///
    /// # Errors
    /// [`NothingPending`], or the kernel refuses the earlier policies.
    pub fn roll_back(&mut self) -> Result<String> {
        self.require_pending()?;
        let _lock = self.lock()?;
        let pending = self.store.pending()?.ok_or(NothingPending)?;
        self.restore_earlier()?;
        Ok(pending.what)
    }

    /// Rolls a change back after its deadline, and reports it. Without one the lock is not taken.
    ///
    /// # Errors
    /// It cannot be rolled back.
    pub fn roll_back_overdue(&mut self) -> Result<()> {
        match self.store.pending()? {
            Some(pending) if left(&pending)?.is_none() => self.exclusive().map(drop),
            _ => Ok(()),
        }
    }

    /// Whether a change is to be rolled back, because its deadline is over.
    ///
    /// # Errors
    /// The store or the clock cannot be read.
    pub fn has_overdue_change(&self) -> Result<bool> {
        Ok(match self.store.pending()? {
            Some(pending) => left(&pending)?.is_none(),
            None => false,
        })
    }

    /// Before the lock, which a store that does not exist has not.
    fn require_pending(&self) -> Result<()> {
        self.store.pending()?.map(drop).ok_or_else(|| NothingPending.into())
    }

    /// Waits until no other command is changing something, and rolls a change back after its deadline.
    ///
    /// # Errors
    /// [`NothingAttached`] without a store, unless what is attached is of another one.
    pub(super) fn exclusive(&mut self) -> Result<File> {
        if self.store.is_absent() {
            self.enforcer.maps()?;
            return Err(NothingAttached.into());
        }
        let lock = self.lock()?;
        if let Some(pending) = self.store.pending()?
            && left(&pending)?.is_none()
        {
            let what = &pending.what;
            self.restore_earlier()
                .with_context(|| format!("roll back `{what}`, which was not confirmed"))?;
            watch::report(&format!("`{what}` was not confirmed in time and is rolled back"));
        }
        Ok(lock)
    }

    /// Restores the earlier contents. Their copy is removed last, so that the rollback can be
    /// repeated if this process is killed.
    fn restore_earlier(&mut self) -> Result<()> {
        let mut transaction = self.store.begin()?;
        transaction.restore()?;
        transaction.commit()?;
        // What is attached may be of another store, and then nothing of this one is enforced. After a reboot
        // the kernel has nothing, until `reconcile`.
        let is_other = self.enforcer.maps().is_err_and(|error| error.is::<OtherStore>());
        if is_other {
            watch::report(
                "the rollback changes nothing in the kernel, which has another store's policies",
            );
        } else if instance::exists(&self.enforcer.pins) {
            for Reconciled { interface, outcome } in self.restore_all()?.interfaces {
                if let Outcome::Failed(error) = outcome {
                    watch::report(&format!("{}: {error:#}", interface.label()));
                }
            }
        } else {
            self.enforcer.require_bpffs_visible(&self.store.model()?)?;
        }
        Ok(self.store.delete_pending()?)
    }
}
