//! The boot and its clock, which no one can set and which counts suspended time.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use procfs::sys::kernel::random;

/// The kernel's id of this boot (random(4)).
pub(super) fn id() -> io::Result<String> {
    random::boot_id().map_err(io::Error::other)
}

/// The time since this boot.
pub(super) fn now() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

/// The time since this boot in nanoseconds, as the kernel compares it with the end of a rule.
pub(super) fn nanoseconds() -> io::Result<u64> {
    Ok(u64::try_from(now()?.as_nanos()).unwrap_or(u64::MAX))
}

/// Sleeps until a time since this boot; a suspended machine wakes up late, but does not sleep longer
/// for it. May return early.
pub(super) fn sleep_until(time: Duration) {
    let _ =
        clock_nanosleep(ClockId::CLOCK_BOOTTIME, ClockNanosleepFlags::TIMER_ABSTIME, &time.into());
}
