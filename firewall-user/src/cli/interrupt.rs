//! Waiting until the user ends a command that goes on.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT (Ctrl-C), SIGTERM and SIGHUP: the command ends where it waits, with what it has printed complete.
pub(super) struct Interrupt {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupt {
    /// From now on these signals no longer end the process at once.
    pub(super) fn new() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("start")?;
        let (interrupt, terminate, hangup) = {
            let _inside = runtime.enter();
            let signal = |kind| signal(kind).context("wait for signals");
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        Ok(Self { runtime, interrupt, terminate, hangup })
    }

    /// Waits for a time; returns whether the command is to end.
    pub(super) fn wait(&mut self, time: Duration) -> bool {
        let Self { runtime, interrupt, terminate, hangup } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = hangup.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }
}
