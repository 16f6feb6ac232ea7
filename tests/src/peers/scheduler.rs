//! What the scheduler tells of threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The threads of the kernel whose names start so, as their places in `/proc`. In a container they
/// are out of sight.
pub(super) fn kernel_threads(name: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let paths = processes.map(|process| process.path());
    let named =
        |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|own| own.starts_with(name));
    paths.filter(|path| named(path)).collect()
}

/// How long a thread ran so far; exact while it does not run.
pub(super) fn ran(thread: &Path) -> Duration {
    figure(thread, 0)
}

/// How long a thread was ready to run so far, and did not.
pub(super) fn waited(thread: &Path) -> Duration {
    figure(thread, 1)
}

fn figure(thread: &Path, number: usize) -> Duration {
    let told = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let nanoseconds = told.split_whitespace().nth(number).and_then(|figure| figure.parse().ok());
    // A thread that has ended, or a kernel that keeps no such figures, tells nothing.
    nanoseconds.map_or(Duration::ZERO, Duration::from_nanos)
}
