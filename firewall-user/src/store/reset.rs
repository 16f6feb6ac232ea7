//! Emptying a store, for tests of the endpoint's clients.

use rusqlite::TransactionBehavior;

use super::{Error, Store, pending, schema};

impl Store {
    /// Makes the store as it was when it was created, but for its identity, its count of changes and the management
    /// networks. Returns whether it did: with an attached interface it does nothing.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn reset(&mut self) -> Result<bool, Error> {
        let Self { connection, path, .. } = self;
        let failed = |error| Error::sqlite(path, error);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        // As the index `interfaces_by_device`: others have no device.
        let count = "SELECT count(*) FROM interfaces WHERE slot < 256";
        let attached: u32 = transaction.query_row(count, [], |row| row.get(0)).map_err(failed)?;
        if attached > 0 {
            return Ok(false);
        }
        pending::delete_all(&transaction).map_err(failed)?;
        schema::insert_first_contents(&transaction, path)?;
        transaction.commit().map_err(failed)?;
        Ok(true)
    }
}
