//! What the kernel has of this host's addresses: no user says it, and the store keeps it.

use super::Transaction;
use crate::policy::Addresses;
use crate::store::{Error, read, write};

impl Transaction<'_> {
    /// The addresses of group members that the policies in force speak of, by slot.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn addresses_in_force(&self) -> Result<Addresses, Error> {
        read::addresses_in_force(&self.sql).map_err(|error| Error::sqlite(self.path, error))
    }

    /// Notes the addresses of group members that the policies speak of which come in force with the
    /// edits, or without any.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_addresses_in_force(&mut self, addresses: &Addresses) -> Result<(), Error> {
        let told = |error| Error::sqlite(self.path, error);
        self.noted |= write::addresses_in_force(&self.sql, addresses).map_err(told)?;
        Ok(())
    }
}
