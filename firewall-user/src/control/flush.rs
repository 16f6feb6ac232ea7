//! Removing flows that the user selects.

use anyhow::Result;

use super::{Control, NothingAttached};
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::host::preflight::{self, Work};
use crate::store::Store;

impl Control {
    /// Removes the flows that `select` leaves of all that are in the tables, while no other command changes
    /// anything; returns how many there were.
    ///
    /// # Errors
    /// Nothing is attached, the tables cannot be read or written, or those of `select`.
    pub fn flush(
        &mut self,
        select: impl FnOnce(&Store, Vec<FlowEntry>) -> Result<Vec<FlowEntry>>,
    ) -> Result<u64> {
        let _lock = self.exclusive_in_kernel()?;
        preflight::capabilities(Work::Maps)?;
        let Some(mut maps) = self.maps()? else { return Err(NothingAttached.into()) };
        let flows = select(&self.store, maps.flows()?)?;
        Ok(maps.remove_flows(&flows)?)
    }
}
