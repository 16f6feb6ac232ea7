//! The values of an array map in the memory of this process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Words of an array map with `BPF_F_MMAPABLE` (Linux 5.5): reads and writes reach the kernel's memory.
pub(in crate::dataplane) struct Mapped {
    start: NonNull<AtomicU64>,
    words: usize,
}

impl Mapped {
    /// Maps `words` words of the map's values.
    ///
    /// # Errors
    /// The map has fewer, or no such flag, or this process may not write it.
    pub(in crate::dataplane) fn new(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (length, fd) = (words * size_of::<AtomicU64>(), map.as_raw_fd());
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, words })
    }

    /// The words. Programs on other CPUs change them at any time.
    pub(in crate::dataplane) const fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has that many words, is aligned to a page, and lives as long as `self`.
        // The kernel refuses a mapping beyond the map's values, so no access faults. Others write the
        // words too, hence atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and no reference to it outlives the value.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}
