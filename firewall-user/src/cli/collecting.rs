//! Collecting records for as long as a command looks at them, where no other process does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use super::{Context, failure};
use crate::observe::collector::Collector;
use crate::observe::collector::hub::Hub;
use crate::observe::journal::JournalError;

/// A collector in a thread of this process; it ends when this is dropped, with everything written.
#[derive(Debug)]
pub(super) struct Collecting {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A collector; `None` where another process collects.
pub(super) fn open(context: &Context, hub: Arc<Hub>) -> Result<Option<Collector>> {
    match Collector::open(&context.paths, context.config, hub) {
        Err(error) if matches!(error.downcast_ref(), Some(JournalError::Busy { .. })) => Ok(None),
        result => result.map(Some),
    }
}

/// The same, and `None` where it fails, which is told: what is in the journal can be read all the same.
pub(super) fn open_or_warn(context: &Context) -> Option<Collector> {
    open(context, Arc::default()).unwrap_or_else(|error| {
        failure::warn(&error.context("record dropped packets"));
        None
    })
}

impl Collecting {
    /// Begins to collect; `None` as [`open_or_warn`].
    pub(super) fn start(context: &Context) -> Result<Option<Self>> {
        open_or_warn(context).map(Self::run).transpose()
    }

    /// Begins to run a collector.
    pub(super) fn run(collector: Collector) -> Result<Self> {
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let run = move || collector.run(|| ends.load(Ordering::Relaxed));
        let thread = thread::Builder::new().name("records".to_owned()).spawn(run)?;
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
