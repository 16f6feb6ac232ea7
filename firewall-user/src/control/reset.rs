//! Emptying the store, for tests of the endpoint's clients.

use anyhow::{Result, bail};

use super::Control;

impl Control {
    /// Makes the store as it was when it was created, while no other command changes anything.
    ///
    /// # Errors
    /// An interface is attached, or the store cannot be written.
    pub fn reset(&mut self) -> Result<()> {
        let _lock = self.exclusive()?;
        if !self.store.reset()? {
            bail!("reset: an interface is attached");
        }
        Ok(())
    }
}
