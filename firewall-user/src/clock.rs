//! The clocks: that of the boot, which no one can set and which counts suspended time, and the wall clock.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use procfs::sys::kernel::random;

use crate::model::Moment;

/// Both clocks at one moment, and the boot that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The kernel's id of the boot; `None` if it cannot be read.
    pub boot: Option<String>,
    /// The moment.
    pub moment: Moment,
}

impl Clocks {
    /// As they are now. A clock that cannot be read shows 0.
    #[must_use]
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let moment = Moment {
            boottime: nanoseconds().unwrap_or_default(),
            wall: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        };
        Self { boot: id().ok(), moment }
    }
}

/// The kernel's id of this boot (random(4)).
///
/// # Errors
/// It cannot be read.
pub fn id() -> io::Result<String> {
    random::boot_id().map_err(io::Error::other)
}

/// The time since this boot.
///
/// # Errors
/// The clock cannot be read.
pub fn now() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

/// The time since this boot in nanoseconds, as the kernel compares it with the end of a rule.
///
/// # Errors
/// The clock cannot be read.
pub fn nanoseconds() -> io::Result<u64> {
    Ok(u64::try_from(now()?.as_nanos()).unwrap_or(u64::MAX))
}

/// Sleeps until a time since this boot; a suspended machine wakes up late, but does not sleep longer
/// for it. May return early.
pub fn sleep_until(time: Duration) {
    let _ =
        clock_nanosleep(ClockId::CLOCK_BOOTTIME, ClockNanosleepFlags::TIMER_ABSTIME, &time.into());
}
