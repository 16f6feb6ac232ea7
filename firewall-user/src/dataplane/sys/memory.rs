//! The memory of a map.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::util::KernelVersion;

/// The memory of a map in bytes, as the kernel counts it (`map_mem_usage`); `None` before Linux 6.4,
/// which reports the size of the keys and values of a full map instead.
pub(in crate::dataplane) fn memory(map: BorrowedFd<'_>) -> Option<u64> {
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 4, 0)) {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}
