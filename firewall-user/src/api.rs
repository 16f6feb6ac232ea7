//! The EC2-compatible endpoint: each action is a change or a reading of the model of this host, by the same ways as
//! the commands of the command line.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::config::{Config, Paths};
use crate::control::Control;
use crate::journal;
use crate::model::{Identity, Model};
use crate::store;

mod actions;
mod authenticate;
mod browser;
mod call;
mod client_tokens;
mod devices;
pub mod keys;
mod refusal;
mod replay;
mod request;
mod resource;
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
    writer: Arc<Opened>,
    /// Readings wait for no change, of this process or of another one.
    reader: Opened,
    /// How long a change that only narrows what is allowed may take to be in force; zero: no time.
    coalescing: Duration,
    /// A thread will have such changes take effect.
    is_scheduled: Arc<AtomicBool>,
}

impl Api {
    /// The endpoint of a host.
    #[must_use]
    pub fn new(paths: Paths, config: Config) -> Self {
        let (writer, reader) = (Arc::new(Opened::new()), Opened::new());
        let (coalescing, is_scheduled) = (Duration::ZERO, Arc::default());
        Self { paths, config, writer, reader, coalescing, is_scheduled }
    }

    /// The same, but a change that only narrows what is allowed takes effect up to this time later, together with
    /// the change that follows.
    #[must_use]
    pub fn coalescing(mut self, coalescing: Duration) -> Self {
        self.coalescing = coalescing;
        self
    }

    /// Has changes take effect that were answered and are not in force yet.
    pub fn settle(&self) {
        let is_scheduled = self.is_scheduled.swap(false, Ordering::AcqRel);
        // Without a schedule too: a thread may have begun and not be done. Where all is in force, nothing happens.
        if is_scheduled || !self.coalescing.is_zero() {
            settle(&self.writer, &self.paths, self.config);
        }
    }

    /// Has a change that was deferred take effect in time.
    fn schedule(&self) {
        if self.is_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let (writer, is_scheduled) = (Arc::downgrade(&self.writer), Arc::clone(&self.is_scheduled));
        let (paths, config, coalescing) = (self.paths.clone(), self.config, self.coalescing);
        let wait = move || {
            thread::sleep(coalescing);
            // Before: what is deferred from now on gets a time of its own.
            let is_due = is_scheduled.swap(false, Ordering::AcqRel);
            if let Some(writer) = writer.upgrade().filter(|_| is_due) {
                settle(&writer, &paths, config);
            }
        };
        if thread::Builder::new().name("coalesce".to_owned()).spawn(wait).is_err() {
            self.is_scheduled.store(false, Ordering::Release);
            settle(&self.writer, &self.paths, self.config);
        }
    }

    /// The account and the region.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.config.ec2
    }

    /// The directory of the store.
    fn state_dir(&self) -> &Path {
        &self.paths.state_dir
    }

    /// The model as it is now. A change that was answered is in it.
    fn model(&self) -> Result<Arc<Model>> {
        self.with_reader(Control::shared_model)
    }

    /// Runs `run` with the store and the kernel of this host, when no other request changes them.
    fn with_control<T>(&self, run: impl FnOnce(&mut Control) -> Result<T>) -> Result<T> {
        self.writer.with(
            || Control::open(&self.paths, self.config),
            |control| {
                control.roll_back_overdue()?;
                run(control)
            },
        )
    }

    /// Makes the store as it was when it was created, for tests of clients.
    ///
    /// # Errors
    /// An interface is attached, or the store cannot be written.
    fn reset(&self) -> Result<()> {
        self.with_control(Control::reset)
    }

    /// Runs `run` with the store for reading; again with a new connection, if the store cannot be read.
    fn with_reader<T>(&self, run: impl Fn(&Control) -> Result<T>) -> Result<T> {
        let open = || {
            let reader = Control::open_read_only(&self.paths, self.config)?;
            if !reader.store().is_absent() {
                return Ok(reader);
            }
            // It is created here.
            self.with_control(|_| Ok(()))?;
            Control::open_read_only(&self.paths, self.config)
        };
        let read = self.reader.with(open, |control| run(control));
        if read.as_ref().is_err_and(is_failed_reading) {
            // A process that was killed in its commit may have left a journal, which a connection for reading
            // cannot roll back; opening the store does.
            self.reader.close();
            return self.reader.with(open, |control| run(control));
        }
        read
    }
}

/// Whether the store could not be read, and not only an object is missing in it.
fn is_failed_reading(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<store::Error>());
    causes.any(|error| !matches!(error, store::Error::Model(_)))
}

impl Drop for Api {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Has deferred changes take effect. The next change or check of the follower repeats what fails.
fn settle(writer: &Opened, paths: &Paths, config: Config) {
    let settled = writer.with(|| Control::open(paths, config), Control::settle_deferred);
    if let Err(error) = settled {
        journal::report(format_args!(
            "a change of the EC2 API is stored, but not in force: {error:#}"
        ));
    }
}

/// A store and the kernel, opened at the first use.
#[derive(Debug)]
struct Opened(Mutex<Option<Control>>);

impl Opened {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn with<T>(
        &self,
        open: impl FnOnce() -> Result<Control>,
        run: impl FnOnce(&mut Control) -> Result<T>,
    ) -> Result<T> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.is_poisoned() {
            // Whatever was half done is in the store or it is not: a new one reads it.
            *guard = None;
            self.0.clear_poison();
        }
        // The file may have been replaced, by a copy of an earlier one for example.
        let control = match guard.take().filter(|control| control.store().is_at_its_path()) {
            Some(control) => control,
            None => open()?,
        };
        run(guard.insert(control))
    }

    /// Closes it, so that the next use opens it.
    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests;
