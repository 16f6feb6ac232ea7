//! Measures the time of a thread without that of others on its CPU.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::scheduler::{self, cpu_time, kernel_threads};

/// Measures from its creation, on the thread that created it, which has to be pinned to CPU 0.
///
/// The CPU time of the thread is not sufficient: some kernels do not include the packets that its
/// CPU receives in softirqs.
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

    /// The time since the start, minus the time that the thread waited for its CPU, plus the time
    /// of ksoftirqd.
    pub(super) fn read(&self) -> Duration {
        let elapsed = self.start.elapsed() + (deferred() - self.deferred);
        elapsed.saturating_sub(waited() - self.waited)
    }
}

fn waited() -> Duration {
    scheduler::wait_time(Path::new("/proc/thread-self"))
}

/// The CPU time of ksoftirqd on CPU 0.
fn deferred() -> Duration {
    static THREAD: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| kernel_threads("ksoftirqd/0"));
    thread.iter().map(|thread| cpu_time(thread)).sum()
}
