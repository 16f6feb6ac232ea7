//! The EC2-compatible endpoint: each action is a change or a reading of the model of this host, by the same ways as
//! the commands of the command line.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::config::{Config, Paths};
use crate::control::Control;
use crate::model::{Identity, Model};

mod actions;
mod authenticate;
mod browser;
mod call;
mod client_tokens;
mod devices;
mod instance;
pub mod keys;
mod refusal;
mod replay;
mod request;
pub mod server;
mod tag_specifications;
mod view;

pub use actions::names as action_names;
pub use authenticate::Authentication;
pub use request::{Access, Answer, Caller, Connection};

/// What the endpoint works on: shared by all requests.
#[derive(Debug)]
pub struct Api {
    paths: Paths,
    config: Config,
    /// One request changes something at a time; other processes are kept off by the lock of [`Control`].
    control: Mutex<Option<Control>>,
}

impl Api {
    /// The endpoint of a host.
    #[must_use]
    pub const fn new(paths: Paths, config: Config) -> Self {
        Self { paths, config, control: Mutex::new(None) }
    }

    /// The account and the region.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.config.ec2
    }

    /// The model as it is now.
    fn model(&self) -> Result<Arc<Model>> {
        self.with_control(|control| control.model().map(Arc::new))
    }

    /// Runs `run` with the store and the kernel of this host, when no other request has them.
    fn with_control<T>(&self, run: impl FnOnce(&mut Control) -> Result<T>) -> Result<T> {
        let mut guard = self.lock();
        let control = match &mut *guard {
            Some(control) => control,
            none => none.insert(Control::open(&self.paths, self.config)?),
        };
        control.roll_back_overdue()?;
        run(control)
    }

    /// Makes the store as it was when it was created, for tests of clients.
    ///
    /// # Errors
    /// An interface is attached, or the store cannot be written.
    fn reset(&self) -> Result<()> {
        self.with_control(Control::reset)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Control>> {
        let mut guard = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if self.control.is_poisoned() {
            // Whatever was half done is in the store or it is not: a new one reads it.
            *guard = None;
            self.control.clear_poison();
        }
        guard
    }
}

#[cfg(test)]
mod tests;
