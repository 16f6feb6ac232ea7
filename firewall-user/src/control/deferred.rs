//! Changes that only narrow what is allowed, stored at once and in force a little later: together with the change that
//! follows, so that what is revoked and allowed again is allowed all the time.
//!
//! The kernel records the generation of the store that is in force (`APPLIED`), so nothing but the delay depends on
//! the process that made the change: every later change writes what is stored as a whole, as do `reconcile` and the
//! first check of `serve`.

use std::sync::{Arc, PoisonError};

use anyhow::Result;

use super::Control;
use super::compiled::{Policies, compile};
use super::enforcer::Enforcer;
use crate::model::Model;
use crate::policy::PolicyInterner;
use crate::store::Transaction;

/// What was in force when a change was deferred.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    /// The generation of the store.
    pub(super) generation: u64,
    pub(super) model: Arc<Model>,
}

impl Enforcer {
    /// Prepares to defer a change: refuses what does not fit, and remembers what is in force.
    ///
    /// # Errors
    /// It does not fit.
    pub(super) fn defer(&self, applied: Option<u64>, transaction: &Transaction<'_>) -> Result<()> {
        let model = transaction.model();
        compile(&mut PolicyInterner::default(), &Policies::new(), model, &self.addresses(model)?)?;
        if applied == Some(transaction.generation()) {
            let model = transaction.shared_before();
            let in_force = InForce { generation: transaction.generation(), model };
            *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = Some(in_force);
        }
        Ok(())
    }

    /// What is in force, if a change was deferred since.
    pub(super) fn in_force(&self, applied: Option<u64>) -> Option<InForce> {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        in_force.clone().filter(|in_force| Some(in_force.generation) == applied)
    }
}

impl Control {
    /// Has deferred changes take effect now, if no change has done so meanwhile.
    ///
    /// # Errors
    /// The kernel refuses them.
    pub fn settle_deferred(&mut self) -> Result<()> {
        let Some(maps) = self.enforcer.maps()? else { return Ok(()) };
        if maps.applied()? != Some(self.store.generation()?) {
            self.refresh()?;
        }
        Ok(())
    }
}
