//! When packets were counted, and the gaps between.

use std::time::Duration;

use super::HitsError;

/// The longest time between two readings of a boot that is no gap, in milliseconds. The kernel counts meanwhile; what
/// may be missed is the packets of flows that end before the next reading.
const MAX_GAP: i64 = 60_000;

/// Milliseconds by which the wall clock may differ from that of the boot between two readings: more is a clock that was
/// set.
const MAX_STEP: u64 = 5_000;

/// The longest time between readings before and after a reboot that is no gap: it takes a while, and then nothing
/// is admitted.
const MAX_REBOOT: i64 = 600_000;

/// Periods that are kept; of more, the oldest are removed.
const MAX_PERIODS: usize = 1000;

/// A time without a gap, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first reading.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

/// When packets were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// In the order of the readings.
    pub(super) periods: Vec<Period>,
    /// The last reading by the clock of the boot, in milliseconds.
    pub(super) boottime: i64,
}

impl Watched {
    /// The periods, in the order of the readings: where the wall clock was set, another one begins.
    #[must_use]
    pub fn periods(&self) -> &[Period] {
        &self.periods
    }

    /// Adds a reading, by the wall clock and by that of the boot, both in milliseconds.
    pub(super) fn extend(
        &mut self,
        boot_before: &Option<String>,
        boot: &Option<String>,
        wall: i64,
        boottime: i64,
    ) {
        let is_same_boot = boot.is_some() && boot == boot_before;
        let gap = |last: &Period| {
            if !is_same_boot {
                // A clock that is behind says nothing about the time in between.
                let away = wall - last.to;
                return (if away < 0 { i64::MAX } else { away }, MAX_REBOOT);
            }
            let passed = boottime - self.boottime;
            // The clock was set: by the wall clock the period would be longer or shorter than it was.
            let is_set = (wall - last.to).abs_diff(passed) > MAX_STEP;
            (if is_set { i64::MAX } else { passed }, MAX_GAP)
        };
        match self.periods.last_mut() {
            Some(last) if matches!(gap(last), (gap, limit) if gap <= limit) => {
                last.to = last.to.max(wall);
            }
            _ => self.periods.push(Period { from: wall, to: wall }),
        }
        let excess = self.periods.len().saturating_sub(MAX_PERIODS);
        self.periods.drain(..excess);
        self.boottime = boottime;
    }

    /// Whether the time until `now` was watched for this long without a gap.
    ///
    /// # Errors
    /// [`HitsError::NotWatched`].
    pub fn require(&self, window: Duration, now: i64) -> Result<(), HitsError> {
        let asked = format!("the last {}", text(window));
        let Some(last) = self.periods.last() else {
            return Err(HitsError::NotWatched {
                asked,
                watched: "they were never watched".to_owned(),
                longest: "0s".to_owned(),
            });
        };
        let since_last = now.saturating_sub(last.to);
        if since_last > MAX_GAP {
            let watched = format!("the last reading was {} ago", ago(since_last));
            return Err(HitsError::NotWatched { asked, watched, longest: "0s".to_owned() });
        }
        let length = now.saturating_sub(last.from).max(0);
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        if window <= length {
            return Ok(());
        }
        let before = self.periods.iter().rev().nth(1);
        let gap = before.map_or_else(String::new, |before| {
            format!(", after a gap of {}", ago(last.from.saturating_sub(before.to)))
        });
        let longest = ago(length);
        let watched = format!("they were watched for {longest}{gap}");
        Err(HitsError::NotWatched { asked, watched, longest: longest.replace(' ', "") })
    }
}

fn ago(milliseconds: i64) -> String {
    text(Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)))
}

/// In the two largest units, rounded down.
fn text(time: Duration) -> String {
    let seconds = time.as_secs();
    let unit = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    // Without the units of months and years, which it cuts days into.
    match seconds / unit * unit {
        seconds @ 86_400.. => match (seconds / 86_400, seconds % 86_400 / 3600) {
            (days, 0) => format!("{days}d"),
            (days, hours) => format!("{days}d {hours}h"),
        },
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn watched(readings: &[(&str, i64, i64)]) -> Watched {
        let mut watched = Watched::default();
        let mut before = None;
        for (boot, wall, boottime) in readings {
            let boot = Some((*boot).to_owned());
            watched.extend(&before, &boot, *wall, *boottime);
            before = boot;
        }
        watched
    }

    #[test]
    fn a_restart_and_a_reboot_are_no_gaps_and_a_longer_time_is_one() {
        let periods = |readings| {
            let all = watched(readings);
            all.periods().iter().map(|one| (one.from, one.to)).collect::<Vec<_>>()
        };
        assert_eq!(periods(&[("a", 0, 5), ("a", 60_000, 60_005)]), [(0, 60_000)]);
        assert_eq!(periods(&[("a", 0, 5), ("a", 60_001, 60_006)]), [(0, 0), (60_001, 60_001)]);
        assert_eq!(periods(&[("a", 0, 5), ("b", 600_000, 5)]), [(0, 600_000)]);
        assert_eq!(periods(&[("a", 0, 5), ("b", 600_001, 5)]), [(0, 0), (600_001, 600_001)]);
        // The wall clock was set by a day, forward and backward: nobody watched for that day.
        assert_eq!(periods(&[("a", 0, 5), ("a", DAY, 1005)]), [(0, 0), (DAY, DAY)]);
        assert_eq!(periods(&[("a", DAY, 5), ("a", 0, 1005)]), [(DAY, DAY), (0, 0)]);
        assert_eq!(periods(&[("a", DAY, 5), ("b", 0, 5)]), [(DAY, DAY), (0, 0)]);
    }

    #[test]
    fn a_period_never_becomes_shorter_and_the_oldest_are_forgotten() {
        let all = watched(&[("a", 10_000, 0), ("a", 8000, 1000), ("a", 12_000, 2000)]);
        assert_eq!(all.periods, [Period { from: 10_000, to: 12_000 }]);
        let all = watched(&[("a", 10_000, 0), ("a", 8000, 1000)]);
        assert_eq!(all.periods, [Period { from: 10_000, to: 10_000 }]);
        // Each reading is compared with the one before, not with the first.
        let minutes: Vec<_> =
            (0..30).map(|minute| ("a", minute * 60_000, 5 + minute * 60_000)).collect();
        assert_eq!(watched(&minutes).periods, [Period { from: 0, to: 29 * 60_000 }]);
        let hours = 0..i64::try_from(MAX_PERIODS).unwrap() + 3;
        let hours: Vec<_> = hours.map(|hour| ("a", hour * 3_600_000, hour * 3_600_000)).collect();
        let all = watched(&hours);
        assert_eq!((all.periods.len(), all.periods[0].from), (MAX_PERIODS, 3 * 3_600_000));
        assert_eq!(all.periods.last().unwrap().from, hours.last().unwrap().1);
    }

    #[test]
    fn a_window_is_watched_to_the_millisecond() {
        let all = Watched { periods: vec![Period { from: 1000, to: 61_000 }], boottime: 0 };
        for (window, now, is_watched) in [
            (60_000, 61_000, true),
            (60_001, 61_000, false),
            (60_001, 61_001, true),
            // The last reading was longer ago than two are apart.
            (1000, 121_000, true),
            (1000, 121_001, false),
        ] {
            let found = all.require(Duration::from_millis(window), now).is_ok();
            assert_eq!(found, is_watched, "{window} {now}");
        }
    }

    #[test]
    fn a_window_longer_than_what_was_watched_is_refused_with_how_long_it_was() {
        let day = |days: u64| Duration::from_secs(days * 86_400);
        let refused = |watched: &Watched, days, now| {
            let error = watched.require(day(days), now).unwrap_err();
            (error.to_string(), crate::explain::Explain::hint(&error).unwrap().into_owned())
        };
        let one = Watched { periods: vec![Period { from: 0, to: 3 * DAY }], boottime: 0 };
        assert!(one.require(day(3), 3 * DAY + 1000).is_ok());
        let (error, hint) = refused(&one, 30, 3 * DAY + 1000);
        assert_eq!(error, "rules were not watched for the last 30d: they were watched for 3d");
        assert!(hint.starts_with("`--since 3d` is watched"), "{hint}");
        let (error, _) = refused(&one, 1, 4 * DAY);
        assert_eq!(error, "rules were not watched for the last 1d: the last reading was 1d ago");
        let gap = Period { from: 5 * DAY, to: 6 * DAY + 3_600_000 };
        let two = Watched { periods: vec![one.periods[0], gap], boottime: 0 };
        let (error, _) = refused(&two, 2, gap.to);
        assert_eq!(
            error,
            "rules were not watched for the last 2d: they were watched for 1d 1h, after a gap of 2d"
        );
        let (error, _) = refused(&Watched::default(), 1, 0);
        assert!(error.ends_with("they were never watched"), "{error}");
    }
}
