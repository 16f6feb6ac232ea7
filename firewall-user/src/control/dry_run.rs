//! Checking a change without making it.

use anyhow::Result;

use super::compiled::{Policies, addresses, compile};
use super::{Control, ends};
use crate::policy::PolicyInterner;
use crate::store::Transaction;

impl Control {
    /// Makes a change without committing it: its policies are compiled, and nothing is stored or
    /// written.
    ///
    /// # Errors
    /// `edit` fails, or a policy does not fit.
    pub fn dry_run<T>(
        &mut self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        // Without a store nobody else can change it.
        let _lock = (!self.store.is_absent()).then(|| self.exclusive()).transpose()?;
        let mut transaction = self.store.begin()?;
        ends::remove_ended(&mut transaction)?;
        let value = edit(&mut transaction)?;
        let model = transaction.model();
        compile(
            &mut PolicyInterner::default(),
            &Policies::new(),
            model,
            &addresses(&self.enforcer.pins, model)?,
        )?;
        Ok(value)
    }
}
