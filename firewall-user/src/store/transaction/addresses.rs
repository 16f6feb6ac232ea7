//! The addresses in the active policies: state of the kernel, recorded in the store.

use super::Transaction;
use crate::policy::Addresses;
use crate::store::{Error, read, write};

impl Transaction<'_> {
    /// The addresses of group members in the active policies, by slot.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn active_addresses(&self) -> Result<Addresses, Error> {
        read::active_addresses(&self.sql).map_err(|error| Error::sqlite(self.path, error))
    }

    /// Records the addresses of group members in the policies that become active with this commit, also
    /// with one that has no edits.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_active_addresses(&mut self, addresses: &Addresses) -> Result<(), Error> {
        let failed = |error| Error::sqlite(self.path, error);
        self.recorded |= write::active_addresses(&self.sql, addresses).map_err(failed)?;
        Ok(())
    }
}
