//! Changes that return by themselves: made as others are, and taken back unless someone confirms
//! them in time.
//!
//! The store keeps what was before until the change is confirmed or taken back. A process of its
//! own waits for the deadline (`watch`), and since a process can be killed, every command looks,
//! too. After a reboot no one has confirmed.

use std::borrow::Cow;
use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Control, Outcome, Reconciled, boot, watch};
use crate::config::Paths;
use crate::dataplane::instance;
use crate::explain::{Exit, Explain};
use crate::store::{Pending, Store, Transaction};

/// On what terms a change is made.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What it is called: the command.
    pub what: String,
    /// It returns by itself after this time, unless it is confirmed.
    pub confirm: Option<Duration>,
    /// Also if it locks its caller out.
    pub force: bool,
}

/// A change that waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it is called: the command.
    pub what: String,
    /// How long it still waits; 0 if it should have been taken back.
    pub left: Duration,
}

/// A change waits for its confirmation, so there is no other one now.
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

/// No change waits for its confirmation.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no change waits for its confirmation")]
pub struct NothingPending;

impl Explain for NothingPending {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(
            "it was confirmed, or rolled back at its deadline: `secgroup rule list` shows which"
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
/// Another change waits for its confirmation: what it is compared with would be gone.
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

/// Right before the commit: sets the deadline, and starts who watches over it.
///
/// # Errors
/// No process can be started, and nobody would take the change back.
pub(super) fn arm(paths: &Paths, terms: &Terms, transaction: &mut Transaction<'_>) -> Result<()> {
    let Some(time) = terms.confirm else { return Ok(()) };
    let deadline =
        || -> std::io::Result<_> { Ok((boot::id()?, boot::now()?.saturating_add(time))) };
    let (boot, deadline) = deadline().context("read the clock")?;
    let deadline = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    transaction.pend(&Pending { what: terms.what.clone(), boot, deadline })?;
    watch::start(paths).context("start the process that takes the change back")
}

/// How long a change still waits; `None` if its time is over.
fn left(pending: &Pending) -> Result<Option<Duration>> {
    let clock = || -> std::io::Result<_> { Ok((boot::id()?, boot::now()?)) };
    let (boot, now) = clock().context("read the clock")?;
    let left = Duration::from_millis(pending.deadline).checked_sub(now);
    Ok(left.filter(|left| !left.is_zero() && boot == pending.boot))
}

impl Control {
    /// The change that waits for its confirmation, if there is one.
    ///
    /// # Errors
    /// The store or the clock cannot be read.
    pub fn waiting(&self) -> Result<Option<Waiting>> {
        let Some(pending) = self.store.pending()? else { return Ok(None) };
        let left = left(&pending)?.unwrap_or_default();
        Ok(Some(Waiting { what: pending.what, left }))
    }

    /// Keeps the change that waits; returns what it is called.
    ///
    /// # Errors
    /// [`NothingPending`], also if its time is over.
    pub fn confirm(&mut self) -> Result<String> {
        let _lock = self.exclusive()?;
        let pending = self.store.pending()?.ok_or(NothingPending)?;
        self.store.delete_pending()?;
        Ok(pending.what)
    }

    /// Takes the change back that waits; returns what it is called.
    ///
    /// # Errors
    /// [`NothingPending`], or the kernel refuses what was before.
    pub fn roll_back(&mut self) -> Result<String> {
        let _lock = self.lock()?;
        let pending = self.store.pending()?.ok_or(NothingPending)?;
        self.take_back()?;
        Ok(pending.what)
    }

    /// Takes a change back whose time is over, and says so. Without one nothing waits for anyone.
    ///
    /// # Errors
    /// It cannot be taken back.
    pub fn settle(&mut self) -> Result<()> {
        match self.store.pending()? {
            Some(pending) if left(&pending)?.is_none() => self.exclusive().map(drop),
            _ => Ok(()),
        }
    }

    /// Waits until no other command is changing something, and takes a change back whose time is
    /// over.
    pub(super) fn exclusive(&mut self) -> Result<File> {
        let lock = self.lock()?;
        if let Some(pending) = self.store.pending()?
            && left(&pending)?.is_none()
        {
            let what = &pending.what;
            self.take_back().with_context(|| format!("take back `{what}`, never confirmed"))?;
            watch::tell(&format!("`{what}` was not confirmed in time: the state before is back"));
        }
        Ok(lock)
    }

    /// Brings back what was before. The copy goes last: whoever finds it begins anew.
    fn take_back(&mut self) -> Result<()> {
        let mut transaction = self.store.begin()?;
        transaction.restore()?;
        transaction.commit()?;
        // After a reboot there is nothing in the kernel, until reconcile.
        if instance::exists(&self.enforcer.pins) {
            for Reconciled { interface, outcome } in self.restore_all()?.interfaces {
                if let Outcome::Failed(error) = outcome {
                    watch::tell(&format!("{}: {error:#}", interface.label()));
                }
            }
        } else {
            self.enforcer.require_bpffs_visible(&self.store.model()?)?;
        }
        Ok(self.store.delete_pending()?)
    }
}
