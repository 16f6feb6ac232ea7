//! Ctrl-C: a program stops at its next step and cleans up.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// The signals that end a program.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The signal that was received; 0 is none.
static CAUGHT: AtomicU8 = AtomicU8::new(0);

/// Records the signals that end a process for [`check`] from now on.
///
/// They are also ignored, which child processes inherit: a terminal sends Ctrl-C to all of them,
/// and a child that is killed would not finish its work, for example a cleanup.
/// Linux keeps a blocked signal for `sigwait` although it is ignored.
///
/// # Errors
/// A system call fails.
pub fn catch() -> Result<()> {
    let signals: SigSet = SIGNALS.into_iter().collect();
    signals.thread_block().context("block signals")?;
    for one in SIGNALS {
        // SAFETY: `SIG_IGN` installs no handler.
        unsafe { signal(one, SigHandler::SigIgn) }.with_context(|| format!("ignore {one}"))?;
    }
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            // Their numbers are 1, 2 and 15.
            CAUGHT.store(u8::try_from(signal as i32).unwrap_or(u8::MAX), Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Fails once a signal was received.
///
/// # Errors
/// A signal was received.
pub fn check() -> Result<()> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ => bail!("interrupted; everything that was created is removed"),
    }
}

/// The exit code after a signal: 128 plus its number, as shells report it.
#[must_use]
pub fn exit_code() -> Option<u8> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal.saturating_add(128)),
    }
}
