//! What remains of a change once packets meet it: waiting for those that met what was before, and releasing that. A
//! client of `serve` is answered meanwhile; other changes wait.

use std::fs::File;
use std::io;
use std::thread::{self, JoinHandle};

use super::staged::Activated;
use super::watch;

/// A thread that releases what was replaced, and then the lock.
#[derive(Debug)]
pub(super) struct Settling(Option<JoinHandle<()>>);

impl Settling {
    /// Begins. A process that is killed meanwhile leaves what the next change completes.
    ///
    /// # Errors
    /// There is no thread; then it is as if the process had been killed.
    pub(super) fn begin(lock: File, activated: Activated, generation: u64) -> io::Result<Self> {
        let settle = move || {
            if let Err(error) = activated.settle(Some(generation)) {
                watch::report(&format!("{error:#}"));
            }
            drop(lock);
        };
        let thread = thread::Builder::new().name("settle".to_owned()).spawn(settle)?;
        Ok(Self(Some(thread)))
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let _ = self.0.take().map(JoinHandle::join);
    }
}
