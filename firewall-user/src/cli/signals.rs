//! SIGINT, SIGTERM and SIGHUP end what goes on until then, and let it print its last line or restore the terminal.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// How late an interrupt may be noticed.
pub(super) const LATENCY: Duration = Duration::from_millis(200);

/// Whether the user wants an end.
#[derive(Debug)]
pub(super) struct Interrupt {
    signals: SignalFd,
    came: bool,
}

impl Interrupt {
    /// From now on, the signals do not end the process.
    pub(super) fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGHUP);
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self { signals: SignalFd::with_flags(&set, flags)?, came: false })
    }

    /// Whether one came.
    pub(super) fn came(&mut self) -> bool {
        self.came |= self.signals.read_signal().is_ok_and(|signal| signal.is_some());
        self.came
    }
}
