//! Removing flows that the user selects.

use anyhow::Result;

use super::{Control, NothingAttached};
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::host::preflight::{self, Work};

impl Control {
    /// Removes the flows that `select` returns true for, while no other command changes anything;
    /// returns how many there were.
    ///
    /// # Errors
    /// Nothing is attached, or the tables cannot be read or written.
    pub fn flush(&mut self, select: impl Fn(&FlowEntry) -> bool) -> Result<u64> {
        let _lock = self.exclusive_in_kernel()?;
        preflight::capabilities(Work::Maps)?;
        let Some(mut maps) = self.maps()? else { return Err(NothingAttached.into()) };
        let flows: Vec<_> = maps.flows()?.into_iter().filter(select).collect();
        Ok(maps.remove_flows(&flows)?)
    }
}
