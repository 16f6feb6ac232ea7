//! Time that a CPU spends on a thread's work, whoever else wants the CPU.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::scheduler::{self, kernel_threads, ran};

/// Runs from when it is made, on the thread that made it, which has to stay on CPU 0.
///
/// The CPU time that the kernel keeps of a thread would not do: in some kernels it is without the
/// packets that the thread's CPU receives meanwhile.
pub(super) struct Stopwatch {
    start: Instant,
    waited: Duration,
    deferred: Duration,
}

impl Stopwatch {
    /// Starts.
    pub(super) fn start() -> Self {
        let (waited, deferred) = (waited(), deferred());
        Self { start: Instant::now(), waited, deferred }
    }

    /// The time since, less what the thread waited for its CPU, and with what the kernel did with
    /// packets in a thread of its own.
    pub(super) fn read(&self) -> Duration {
        let elapsed = self.start.elapsed() + (deferred() - self.deferred);
        elapsed.saturating_sub(waited() - self.waited)
    }
}

fn waited() -> Duration {
    scheduler::waited(Path::new("/proc/thread-self"))
}

/// How long the kernel's thread for packets ran on CPU 0.
fn deferred() -> Duration {
    static THREAD: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| kernel_threads("ksoftirqd/0"));
    thread.iter().map(|thread| ran(thread)).sum()
}
