//! Changing what is stored, and the policies with it.

use std::fs::File;

use anyhow::Result;

use super::confirm::{arm, begin};
use super::settling::Settling;
use super::{Caller, Control, Terms, ends, lockout};
use crate::dataplane::host::preflight::{self, Work};
use crate::store::Transaction;

impl Control {
    /// Makes a change: everything that `edit` does, or nothing if it fails.
    ///
    /// The order makes it safe: the new policies are compiled and written beside the active ones, the
    /// store commits, and only then one word per interface makes them active. A process that is killed
    /// before the commit has changed nothing; after it, `reconcile` completes the change.
    ///
    /// # Errors
    /// `edit` fails, or the change cannot be made.
    pub fn change<T>(
        &mut self,
        terms: &Terms,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let lock = self.exclusive()?;
        self.change_locked(lock, terms, edit)
    }

    /// As [`Self::change`], for a caller that holds the lock.
    pub(super) fn change_locked<T>(
        &mut self,
        lock: File,
        terms: &Terms,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut transaction = begin(&mut self.store, terms)?;
        let value = edit(&mut transaction)?;
        if !transaction.writes() {
            return Ok(value);
        }
        let messages = ends::messages(&transaction);
        if !terms.force {
            let models = (transaction.in_force(), transaction.model());
            lockout::check(&self.enforcer, terms.caller, models, true)?;
        }
        self.enforcer.require_bpffs_visible(transaction.model())?;
        let is_attached = !transaction.model().interfaces.is_empty();
        let maps = if is_attached { self.enforcer.maps()? } else { None };
        let Some(maps) = maps else {
            self.enforcer.require_no_hidden(transaction.model().interfaces.values())?;
            if terms.caller != Caller::Process {
                self.enforcer.require_no_device(transaction.model().interfaces.values())?;
            }
            arm(&self.paths, terms, &mut transaction)?;
            transaction.commit()?;
            ends::report(&messages);
            if is_attached {
                let text = "stored, but no interface is enforced: it takes effect with `secgroup reconcile`";
                ends::report(&[text.to_owned()]);
            }
            return Ok(value);
        };
        preflight::capabilities(Work::Maps)?;
        if terms.is_deferrable && terms.confirm.is_none() {
            self.enforcer.defer(maps.applied()?, &transaction)?;
            transaction.commit()?;
            ends::report(&messages);
            return Ok(value);
        }
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        let interfaces = transaction.model().interfaces.clone();
        arm(&self.paths, terms, &mut transaction)?;
        let generation = transaction.commit()?;
        let activated = staged.activate()?;
        if terms.caller == Caller::Process {
            self.enforcer.gc_partly(&mut activated.settle(Some(generation))?, &interfaces);
        } else if activated.is_same() {
            activated.settle(Some(generation))?;
        } else {
            // Its client need not wait for it; and `serve` removes expired flows.
            self.settling = Some(Settling::begin(lock, activated, generation)?);
        }
        ends::report(&messages);
        Ok(value)
    }
}
