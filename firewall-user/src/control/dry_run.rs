//! Checking a change without making it.

use anyhow::Result;

use super::compiled::{Policies, compile};
use super::confirm::Unconfirmed;
use super::staged::{blocks, filters};
use super::{Caller, Control, Terms, ends, lockout};
use crate::model::Model;
use crate::policy::PolicyInterner;
use crate::policy::blocks::resolve_blocks;
use crate::policy::filter::filter_entries;
use crate::store::{Pending, Transaction};

impl Control {
    /// Makes a change without committing it: its policies, filters and blocks are compiled, and nothing is
    /// stored or written.
    ///
    /// # Errors
    /// Another change is not confirmed yet, `edit` fails, the change would lock its caller out, or something does not fit.
    pub fn dry_run<T>(
        &mut self,
        terms: &Terms,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        // Without a store nobody else can change it.
        let _lock = (!self.store.is_absent()).then(|| self.exclusive()).transpose()?;
        let mut transaction = self.store.begin()?;
        if let Some(Pending { what, .. }) = transaction.pending()? {
            return Err(Unconfirmed { what }.into());
        }
        ends::remove_ended(&mut transaction)?;
        let value = edit(&mut transaction)?;
        let model = transaction.model();
        // What attaches another interface makes the maps.
        let stored = &transaction.before().interfaces;
        let is_change = model.interfaces.keys().all(|slot| stored.contains_key(slot));
        if terms.caller != Caller::Process
            && is_change
            && !model.interfaces.is_empty()
            && self.enforcer.maps()?.is_none()
        {
            self.enforcer.require_no_device(model.interfaces.values())?;
        }
        if !terms.force {
            lockout::check(&self.enforcer, terms.caller, (transaction.in_force(), model), true)?;
        }
        compile(
            &mut PolicyInterner::default(),
            &Policies::new(),
            model,
            &self.enforcer.addresses(model)?,
        )?;
        compile_lists(transaction.before(), model)?;
        Ok(value)
    }
}

/// Compiles the filters and blocks that a change makes different. The indexes of counters are not known: what
/// fits does not depend on them.
fn compile_lists(before: &Model, model: &Model) -> Result<()> {
    let counter = |number: u32| number;
    let of =
        |model: &Model, slot: &u16| filter_entries(model, model.interfaces.get(slot)?, &counter);
    let mut compiled = Vec::new();
    for (slot, interface) in &model.interfaces {
        let Some(entries) = of(model, slot) else { continue };
        if of(before, slot).as_ref() != Some(&entries) && !compiled.contains(&entries) {
            filters::compile(interface, &entries)?;
            compiled.push(entries);
        }
    }
    let blocked = resolve_blocks(model, &counter);
    if blocked != resolve_blocks(before, &counter) {
        blocks::compile(&blocked)?;
    }
    Ok(())
}
