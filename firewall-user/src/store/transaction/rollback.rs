//! A change that can be rolled back after its commit.

use super::Transaction;
use crate::store::{Error, Pending, pending};

impl Transaction<'_> {
    /// The change that is not confirmed yet, if there is one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn pending(&self) -> Result<Option<Pending>, Error> {
        pending::read(&self.sql).map_err(|error| Error::sqlite(self.path, error))
    }

    /// Copies the tables, so that [`crate::store::Store::restore_pending`] can restore them. Call it before the first edit, and
    /// only without a pending change.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn copy_tables(&mut self) -> Result<(), Error> {
        pending::copy_tables(&self.sql).map_err(|error| Error::sqlite(self.path, error))?;
        self.copied = true;
        Ok(())
    }

    /// Records that the edits are to be confirmed; [`Self::copy_tables`] came before them.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn pend(&mut self, pending: &Pending) -> Result<(), Error> {
        pending::write(&self.sql, pending).map_err(|error| Error::sqlite(self.path, error))
    }
}
