//! A change that can be taken back as a whole.

use super::Transaction;
use crate::store::{Error, Pending, pending, read};

impl Transaction<'_> {
    /// The change that waits for its confirmation, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pending(&self) -> Result<Option<Pending>, Error> {
        pending::read(&self.sql).map_err(|error| Error::sqlite(self.path, error))
    }

    /// Keeps what is there now, so that [`Self::restore`] can bring it back. Before the first edit,
    /// and only where nothing is kept already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self) -> Result<(), Error> {
        pending::keep(&self.sql).map_err(|error| Error::sqlite(self.path, error))?;
        self.kept = true;
        Ok(())
    }

    /// Says that the edits wait for their confirmation; [`Self::keep`] came before them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn pend(&mut self, pending: &Pending) -> Result<(), Error> {
        pending::write(&self.sql, pending).map_err(|error| Error::sqlite(self.path, error))
    }

    /// Brings back what [`Self::keep`] kept; it stays kept. Rules get the numbers that they had, and
    /// the numbers of rules that are gone by this are not given again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn restore(&mut self) -> Result<(), Error> {
        self.changed = true;
        let restored = pending::restore(&self.sql).and_then(|()| read::model(&self.sql));
        self.model = restored.map_err(|error| {
            self.broken = true;
            Error::sqlite(self.path, error)
        })?;
        Ok(())
    }
}
