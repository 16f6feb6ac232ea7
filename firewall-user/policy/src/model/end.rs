//! When a rule, an entry of an ACL or a block ends by itself.

use std::time::Duration;

use jiff::Timestamp;

use super::Error;

/// The latest end, from now: the kernel's clock would take longer, and a longer time is a mistake.
pub const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// A difference between two clocks that is no step, in nanoseconds.
const TOLERANCE: u64 = 2_000_000_000;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment {
    /// Nanoseconds since the boot, suspended time included (`CLOCK_BOOTTIME`).
    pub boottime: u64,
    /// Milliseconds since 1970, by the wall clock.
    pub wall: i64,
}

/// An end. The kernel compares it with its own clock, so that it takes effect without any process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct End {
    /// How it was given.
    pub kind: EndKind,
    /// The time in milliseconds since 1970, by the wall clock.
    pub wall: i64,
    /// The time in nanoseconds since this boot, suspended time included (`CLOCK_BOOTTIME`).
    pub boottime: u64,
}

/// How an end was given, which decides what a step of the wall clock does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndKind {
    /// After a time (`--for`): a step of the wall clock changes nothing.
    For,
    /// At a time of the wall clock (`--until`).
    Until,
}

impl Moment {
    /// The time since this boot at which the wall clock shows `wall`, if nobody sets it meanwhile.
    #[must_use]
    pub fn boottime_at(&self, wall: i64) -> u64 {
        let left = wall.saturating_sub(self.wall).max(0).unsigned_abs();
        self.boottime.saturating_add(left.saturating_mul(MILLISECOND))
    }

    /// What the wall clock shows at a time since this boot, if nobody sets it meanwhile.
    #[must_use]
    pub fn wall_at(&self, boottime: u64) -> i64 {
        let difference = i128::from(boottime) - i128::from(self.boottime);
        let wall = i128::from(self.wall) + difference / i128::from(MILLISECOND);
        i64::try_from(wall).unwrap_or(i64::MAX)
    }
}

impl End {
    /// An end after a time.
    ///
    /// # Errors
    /// The time is less than a second or longer than [`LONGEST`].
    pub fn after(time: Duration, now: Moment) -> Result<Self, Error> {
        if !(Duration::from_secs(1)..=LONGEST).contains(&time) {
            return Err(Error::EndTooFar);
        }
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let boottime = now.boottime.saturating_add(time);
        Ok(Self { kind: EndKind::For, wall: now.wall_at(boottime), boottime })
    }

    /// An end at a time of the wall clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// The time is over, or longer away than [`LONGEST`].
    pub fn at(wall: i64, now: Moment) -> Result<Self, Error> {
        let left = wall.saturating_sub(now.wall);
        if left <= 0 {
            return Err(Error::EndOver(rfc3339(wall)));
        }
        if u128::from(left.unsigned_abs()) > LONGEST.as_millis() {
            return Err(Error::EndTooFar);
        }
        Ok(Self { kind: EndKind::Until, wall, boottime: now.boottime_at(wall) })
    }

    /// This end as it is after the wall clock was perhaps set: one by the wall clock comes at another time
    /// since the boot, and one after a time has another time by the wall clock. It stays as it is while the
    /// clocks agree with it up to two seconds.
    #[must_use]
    pub fn adjusted(self, now: Moment) -> Self {
        match self.kind {
            EndKind::For => {
                let wall = now.wall_at(self.boottime);
                let step = self.wall.abs_diff(wall).saturating_mul(MILLISECOND);
                if step < TOLERANCE { self } else { Self { wall, ..self } }
            }
            EndKind::Until => {
                let boottime = now.boottime_at(self.wall);
                // What is over stays over: its time does not follow the clock.
                let is_over = self.wall <= now.wall && self.boottime <= now.boottime;
                let is_same = is_over || self.boottime.abs_diff(boottime) < TOLERANCE;
                if is_same { self } else { Self { boottime, ..self } }
            }
        }
    }

    /// The time that is left, in nanoseconds, at a time since this boot; `None` if it is over.
    #[must_use]
    pub fn left(&self, now: u64) -> Option<u64> {
        self.boottime.checked_sub(now).filter(|left| *left > 0)
    }

    /// Whether both come within the same second by the wall clock: documents have whole seconds.
    #[must_use]
    pub const fn is_in_the_second_of(&self, other: Self) -> bool {
        self.wall.div_euclid(1000) == other.wall.div_euclid(1000)
    }

    /// The time as documents have it (RFC 3339).
    #[must_use]
    pub fn text(&self) -> String {
        rfc3339(self.wall)
    }
}

/// Milliseconds since 1970 as RFC 3339 has them, in UTC: `2026-11-30T17:00:00Z`. Fractions of a second are
/// left out.
#[must_use]
pub fn rfc3339(milliseconds: i64) -> String {
    let time = Timestamp::from_second(milliseconds.div_euclid(1000));
    time.map_or_else(|_| "-".to_owned(), |time| time.to_string())
}

/// A time with an offset (RFC 3339) in milliseconds since 1970.
///
/// # Errors
/// The text is none.
pub fn parse_rfc3339(text: &str) -> Result<i64, Error> {
    let time: Result<Timestamp, _> = text.parse();
    time.map(Timestamp::as_millisecond).map_err(|_| Error::Time(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: Moment = Moment { boottime: 100 * SECOND, wall: 1_700_000_000_000 };

    #[test]
    fn an_end_is_after_a_time_or_at_one() {
        let end = End::after(Duration::from_secs(60), NOW).unwrap();
        assert_eq!((end.boottime, end.wall), (160 * SECOND, NOW.wall + 60_000));
        assert_eq!(End::at(NOW.wall + 60_000, NOW).unwrap(), End { kind: EndKind::Until, ..end });
        assert_eq!(end.left(NOW.boottime), Some(60 * SECOND));
        assert_eq!((end.left(159 * SECOND), end.left(160 * SECOND)), (Some(SECOND), None));
        assert_eq!(end.text(), "2023-11-14T22:14:20Z");
        assert_eq!(parse_rfc3339("2023-11-14T23:14:20+01:00").unwrap(), end.wall);
        for time in [Duration::ZERO, Duration::from_millis(999), LONGEST + Duration::from_secs(1)] {
            assert_eq!(End::after(time, NOW), Err(Error::EndTooFar));
        }
        assert!(matches!(End::at(NOW.wall, NOW), Err(Error::EndOver(_))));
        assert_eq!(End::at(i64::MAX, NOW), Err(Error::EndTooFar));
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_only_an_end_by_the_wall_clock() {
        let after = End::after(Duration::from_secs(3600), NOW).unwrap();
        let until = End::at(NOW.wall + 3_600_000, NOW).unwrap();
        for step in [-7_200_000_i64, -1_000, 1_000, 1_800_000, 7_200_000] {
            let now = Moment { boottime: 110 * SECOND, wall: NOW.wall + 10_000 + step };
            let (one, two) = (after.adjusted(now), until.adjusted(now));
            assert_eq!(one.boottime, after.boottime, "{step}");
            assert_eq!(two.wall, until.wall, "{step}");
            if step.abs() < 2_000 {
                assert_eq!((one, two), (after, until), "no step");
                continue;
            }
            assert_eq!(one.wall, after.wall + step);
            let left = (3_590_000 - step).max(0).unsigned_abs() * 1_000_000;
            assert_eq!(two.left(now.boottime).unwrap_or(0), left, "{step}");
        }
    }

    #[test]
    fn suspended_time_counts() {
        let until = End::at(NOW.wall + 60_000, NOW).unwrap();
        // Both clocks have gone on.
        let later = Moment { boottime: 200 * SECOND, wall: NOW.wall + 100_000 };
        for end in [until, End::after(Duration::from_secs(60), NOW).unwrap()] {
            assert_eq!(end.adjusted(later), end);
            assert_eq!(end.left(later.boottime), None);
        }
    }

    #[test]
    fn what_is_no_time_with_an_offset_is_refused() {
        for text in ["", "2026-11-30", "2026-11-30T18:00:00", "18:00", "tomorrow"] {
            assert_eq!(parse_rfc3339(text), Err(Error::Time(text.to_owned())), "{text}");
        }
    }
}
