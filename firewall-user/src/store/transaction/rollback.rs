//! A change that can be rolled back after its commit.

use super::Transaction;
use crate::store::{Error, Pending, pending, read};

impl Transaction<'_> {
    /// The change that is not confirmed yet, if there is one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn pending(&self) -> Result<Option<Pending>, Error> {
        pending::read(&self.sql).map_err(|error| Error::sqlite(self.path, error))
    }

    /// Copies the tables, so that [`Self::restore`] can restore them. Call it before the first edit, and
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

    /// Restores the tables from the copy of [`Self::copy_tables`], which stays. Rules get the numbers that
    /// they had; the numbers of rules that this deletes are not used again.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn restore(&mut self) -> Result<(), Error> {
        self.changed = true;
        let restored = pending::restore(&self.sql).and_then(|()| read::model(&self.sql));
        self.model = restored.map_err(|error| {
            self.incomplete = true;
            Error::sqlite(self.path, error)
        })?;
        Ok(())
    }
}
