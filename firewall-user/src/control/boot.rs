//! Time that no one sets: since this boot, suspended time included.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Where the kernel tells which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's id of this boot.
pub(super) fn id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// Since this boot.
pub(super) fn now() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

/// Sleeps; a suspended machine wakes up late, and not for the rest of the time.
pub(super) fn sleep_until(moment: Duration) {
    // Interrupted, it ends early; whoever sleeps looks at the clock again.
    let _ = clock_nanosleep(
        ClockId::CLOCK_BOOTTIME,
        ClockNanosleepFlags::TIMER_ABSTIME,
        &moment.into(),
    );
}
