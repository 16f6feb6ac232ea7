//! `--for` and `--until`, of everything that can end by itself.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

use crate::clock::Clocks;
use crate::model::{End, Error, LONGEST, Moment, parse_rfc3339};

/// When something ends by itself.
#[derive(Clone, Copy, Debug, Default, Args)]
#[group(id = "end", multiple = false)]
pub(super) struct EndOptions {
    /// End it by itself after this time: 30s, 10m, 2h, 1d12h; a clock that is set does not change it
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    after: Option<Duration>,
    /// End it by itself at this time: 18:00, "2026-11-30 18:00", 2026-11-30T18:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<Until>,
}

/// A time of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Milliseconds since 1970.
    Given(i64),
    /// By the clock of this host.
    Local(DateTime),
    /// The next time that the clock of this host shows it.
    Next(Time),
}

/// The longest time, for the message.
const _: () = assert!(LONGEST.as_secs() == 10 * 366 * 24 * 3600);

fn duration(word: &str) -> Result<Duration, String> {
    let range = || "1s to ten years, for example 30s, 10m, 2h or 1d12h".to_owned();
    let time: Duration = humantime::parse_duration(word).map_err(|_| range())?;
    if (Duration::from_secs(1)..=LONGEST).contains(&time) { Ok(time) } else { Err(range()) }
}

fn until(word: &str) -> Result<Until, String> {
    if let Ok(wall) = parse_rfc3339(word) {
        return Ok(Until::Given(wall));
    }
    // A date without a time could mean its first or its last moment.
    let has_time = word.contains(':');
    if has_time && let Ok(time) = word.parse::<DateTime>() {
        return Ok(Until::Local(time));
    }
    if has_time && let Ok(time) = word.parse::<Time>() {
        return Ok(Until::Next(time));
    }
    Err("write a time of this host's clock as 18:00 or \"2026-11-30 18:00\", or one with an offset as \
         2026-11-30T18:00:00+01:00"
        .to_owned())
}

impl Until {
    /// In milliseconds since 1970; `None` if it is no time that the clock can show.
    fn wall(self, now: i64, zone: &TimeZone) -> Option<i64> {
        let of = |time: DateTime| {
            let time = zone.to_ambiguous_timestamp(time).compatible().ok()?;
            Some(time.as_millisecond())
        };
        match self {
            Self::Given(wall) => Some(wall),
            Self::Local(time) => of(time),
            Self::Next(time) => {
                let today = zone.to_datetime(Timestamp::from_millisecond(now).ok()?).date();
                let here = of(today.to_datetime(time))?;
                if here > now { Some(here) } else { of(today.tomorrow().ok()?.to_datetime(time)) }
            }
        }
    }
}

impl EndOptions {
    /// Whether an end is given.
    pub(super) const fn is_given(&self) -> bool {
        self.after.is_some() || self.until.is_some()
    }

    /// Whether it is given as a time of the wall clock.
    pub(super) const fn is_until(&self) -> bool {
        self.until.is_some()
    }

    /// The end, counted from now.
    ///
    /// # Errors
    /// It is over, or too far away.
    pub(super) fn end(&self) -> Result<Option<End>, Error> {
        self.end_from(Clocks::now().moment, &TimeZone::system())
    }

    fn end_from(&self, now: Moment, zone: &TimeZone) -> Result<Option<End>, Error> {
        let Self { after, until } = self;
        if let Some(time) = after {
            return End::after(*time, now).map(Some);
        }
        let Some(until) = until else { return Ok(None) };
        let wall = until.wall(now.wall, zone).ok_or(Error::EndTooFar)?;
        End::at(wall, now).map(Some)
    }
}

/// What is left of an end, for a cell; `-` without one.
pub(super) fn left(end: Option<End>) -> String {
    let Some(end) = end else { return "-".to_owned() };
    end.left(Clocks::now().moment.boottime).map_or_else(|| "ended".to_owned(), short)
}

/// A time with its two largest units: `1d 3h`, `2h 5m`, `12s`.
pub(super) fn short(nanoseconds: u64) -> String {
    let seconds = nanoseconds.div_ceil(1_000_000_000);
    let [day, hour, minute] = [86_400, 3_600, 60];
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / minute, seconds % minute),
        3_600..86_400 => format!("{}h {}m", seconds / hour, seconds % hour / minute),
        _ => format!("{}d {}h", seconds / day, seconds % day / hour),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-29 20:00 UTC.
    const NOW: Moment = Moment { boottime: 1_000_000_000, wall: 1_795_982_400_000 };

    fn at(word: &str, zone: &TimeZone) -> Result<String, Error> {
        let options = EndOptions { after: None, until: Some(until(word).unwrap()) };
        Ok(options.end_from(NOW, zone)?.unwrap().text())
    }

    #[test]
    fn times_are_of_this_host_unless_they_have_an_offset() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (word, time) in [
            ("2026-11-30T18:00:00Z", "2026-11-30T18:00:00Z"),
            ("2026-11-30T18:00:00+01:00", "2026-11-30T17:00:00Z"),
            ("2026-11-30 18:00", "2026-11-30T17:00:00Z"),
            ("2026-11-30T18:00:30", "2026-11-30T17:00:30Z"),
            // It is 21:00 there.
            ("22:00", "2026-11-29T21:00:00Z"),
            ("21:00", "2026-11-30T20:00:00Z"),
            ("08:30", "2026-11-30T07:30:00Z"),
        ] {
            assert_eq!(at(word, &zone).unwrap(), time, "{word}");
        }
        let past = at("2026-11-29 20:59", &zone).unwrap_err();
        assert_eq!(past, Error::EndOver("2026-11-29T19:59:00Z".to_owned()));
        assert_eq!(at("2046-11-29 20:59", &zone), Err(Error::EndTooFar));
        for word in ["", "2026-11-30", "tomorrow", "18", "25:00", "2026-13-30 18:00"] {
            assert!(until(word).is_err(), "{word}");
        }
    }

    #[test]
    fn durations_are_bounded() {
        for (word, seconds) in [("30s", 30), ("10m", 600), ("2h", 7200), ("1d12h", 129_600)] {
            assert_eq!(duration(word), Ok(Duration::from_secs(seconds)), "{word}");
        }
        for word in ["", "30", "0s", "-1s", "999ms", "11y", "soon"] {
            assert!(duration(word).is_err(), "{word}");
        }
    }

    #[test]
    fn what_is_left_has_two_units() {
        for (seconds, text) in
            [(1, "1s"), (59, "59s"), (61, "1m 1s"), (7_500, "2h 5m"), (100_000, "1d 3h")]
        {
            assert_eq!(short(seconds * 1_000_000_000), text);
        }
        assert_eq!(left(None), "-");
    }
}
