//! CPU and wait times of threads from the scheduler.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel threads whose names start with `name`, as paths in `/proc`. A container does not see
/// them.
pub(super) fn kernel_threads(name: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let paths = processes.map(|process| process.path());
    let named =
        |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|own| own.starts_with(name));
    paths.filter(|path| named(path)).collect()
}

/// The CPU time of a thread so far; exact while it does not run.
pub(super) fn cpu_time(thread: &Path) -> Duration {
    figure(thread, 0)
}

/// The time that a thread has waited for a CPU so far.
pub(super) fn wait_time(thread: &Path) -> Duration {
    figure(thread, 1)
}

fn figure(thread: &Path, number: usize) -> Duration {
    let schedstat = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let nanoseconds =
        schedstat.split_whitespace().nth(number).and_then(|figure| figure.parse().ok());
    // Zero if the thread has ended, or if the kernel has no schedstat.
    nanoseconds.map_or(Duration::ZERO, Duration::from_nanos)
}
