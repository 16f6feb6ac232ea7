//! Ctrl-C: what is watched stops at its next step and takes away what it made.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// What asks a program to end.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The signal that came; 0 is none.
static CAUGHT: AtomicU8 = AtomicU8::new(0);

/// From now on signals that ask to end are noted, and [`check`] tells of them.
///
/// They are ignored too, which the programs we start inherit: a terminal sends Ctrl-C to all of
/// them, and one that dies halfway, above all one that is cleaning up, would leave its work undone.
/// Linux keeps a blocked signal for `sigwait` although it is ignored.
///
/// # Errors
/// The kernel refuses.
pub fn catch() -> Result<()> {
    let signals: SigSet = SIGNALS.into_iter().collect();
    signals.thread_block().context("block signals")?;
    for one in SIGNALS {
        // SAFETY: no handler is installed, so none can run at a bad moment.
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

/// Fails once a signal came.
///
/// # Errors
/// It did.
pub fn check() -> Result<()> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ => bail!("interrupted; everything that was made is gone again"),
    }
}

/// What to end with after a signal, as shells tell of one.
#[must_use]
pub fn exit_code() -> Option<u8> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal.saturating_add(128)),
    }
}
