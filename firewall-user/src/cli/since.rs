//! `--since`, of every command that has it.

use std::time::Duration;

use anyhow::Result;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::failure::UsageError;
use crate::model::parse_rfc3339;

/// What `--since` may be.
const FORMS: &str = "write a time span as 30s, 10m, 2h or 1d, a time of this host's clock as 18:00 or \
                     \"2026-11-30 18:00\", or one with an offset as 2026-11-30T18:00:00+01:00";

/// The beginning of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// So long ago.
    Ago(Duration),
    /// Milliseconds since 1970.
    Given(i64),
    /// By the clock of this host.
    Local(DateTime),
    /// The last time that the clock of this host showed it.
    Last(Time),
}

pub(super) fn parse(word: &str) -> Result<Since, String> {
    if let Ok(wall) = parse_rfc3339(word) {
        return Ok(Since::Given(wall));
    }
    let has_time = word.contains(':');
    if has_time && let Ok(time) = word.parse::<DateTime>() {
        return Ok(Since::Local(time));
    }
    if has_time && let Ok(time) = word.parse::<Time>() {
        return Ok(Since::Last(time));
    }
    humantime::parse_duration(word).map(Since::Ago).map_err(|_| FORMS.to_owned())
}

impl Since {
    /// In milliseconds since 1970, if `now` is what the clock shows.
    ///
    /// # Errors
    /// The clock cannot show it, or it has not come yet.
    pub(super) fn before(self, now: i64) -> Result<i64> {
        self.checked(now, &TimeZone::system()).map_err(Into::into)
    }

    fn checked(self, now: i64, zone: &TimeZone) -> Result<i64, UsageError> {
        let refused = |message: &str, hint| UsageError { message: message.to_owned(), hint };
        match self.of(now, zone) {
            None => Err(refused(
                "--since is a time that this host's clock cannot show",
                "name a later time",
            )),
            Some(time) if time > now => Err(refused(
                "--since is a time that is yet to come",
                "name an earlier time by this host's clock (`date`), or a time span as 10m",
            )),
            Some(time) => Ok(time),
        }
    }

    fn of(self, now: i64, zone: &TimeZone) -> Option<i64> {
        let of = |time: DateTime| {
            let time = zone.to_ambiguous_timestamp(time).compatible().ok()?;
            Some(time.as_millisecond())
        };
        match self {
            Self::Ago(time) => Some(now.saturating_sub_unsigned(time.as_millis().try_into().ok()?)),
            Self::Given(wall) => Some(wall),
            Self::Local(time) => of(time),
            Self::Last(time) => {
                let today = zone.to_datetime(Timestamp::from_millisecond(now).ok()?).date();
                let here = of(today.to_datetime(time))?;
                let yesterday = today.checked_sub(1.day()).ok()?;
                if here <= now { Some(here) } else { of(yesterday.to_datetime(time)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_a_time_ago_or_at_a_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let wall = |text: &str| parse_rfc3339(text).unwrap();
        let now = wall("2026-11-30T09:30:00+01:00");
        for (word, expected) in [
            ("30s", "2026-11-30T09:29:30+01:00"),
            ("2h", "2026-11-30T07:30:00+01:00"),
            ("1d", "2026-11-29T09:30:00+01:00"),
            ("09:12", "2026-11-30T09:12:00+01:00"),
            ("18:00", "2026-11-29T18:00:00+01:00"),
            ("2026-11-28 18:00", "2026-11-28T18:00:00+01:00"),
            ("2026-11-28T18:00:00Z", "2026-11-28T18:00:00Z"),
        ] {
            assert_eq!(parse(word).unwrap().of(now, &zone), Some(wall(expected)), "{word}");
        }
        for (word, refused) in [
            ("2026-11-30 09:30", false),
            ("2026-11-30 09:31", true),
            ("2026-11-30T08:30:01Z", true),
        ] {
            assert_eq!(parse(word).unwrap().checked(now, &zone).is_err(), refused, "{word}");
        }
        for word in ["", "yesterday", "2026-11-28", "-2h", "25:00"] {
            assert!(parse(word).is_err(), "{word}");
        }
    }
}
