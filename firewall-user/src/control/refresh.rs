//! Writing the policies again after a change outside the store.

use anyhow::Result;

use super::{Control, ends};

impl Control {
    /// Writes the policies that differ from the active ones, for example after a change of addresses.
    /// Returns whether anything is attached.
    ///
    /// # Errors
    /// A policy does not fit, or the kernel refuses it.
    pub fn refresh(&mut self) -> Result<bool> {
        let _lock = self.exclusive()?;
        let mut transaction = self.store.begin()?;
        ends::remove_ended(&mut transaction)?;
        let messages = ends::messages(&transaction);
        self.enforcer.require_bpffs_visible(transaction.model())?;
        let Some(maps) = self.enforcer.maps()? else { return Ok(false) };
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        let generation = transaction.commit()?;
        staged.flip(Some(generation))?;
        ends::report(&messages);
        Ok(true)
    }
}
