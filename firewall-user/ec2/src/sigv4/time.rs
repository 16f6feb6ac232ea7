//! The times of signatures.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

/// How far the clock of a client may be from this one, in seconds.
pub const MAX_SKEW: i64 = 300;

/// A time with a precision of a second, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(DateTime);

impl Time {
    /// The time of a number of seconds since 1970; `None` before the year -9999 and after 9999.
    #[must_use]
    pub fn at(seconds: i64) -> Option<Self> {
        let stamp = Timestamp::from_second(seconds).ok()?;
        Some(Self(TimeZone::UTC.to_datetime(stamp)))
    }

    /// Reads `20150830T123600Z`.
    pub(super) fn basic(text: &str) -> Option<Self> {
        let is_form = text.len() == 16
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        let number = |at: usize, length| text.get(at..at + length)?.parse::<i16>().ok();
        let small = |at| number(at, 2).and_then(|number| i8::try_from(number).ok());
        if !is_form {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, small(4)?, small(6)?);
        let (hour, minute, second) = (small(9)?, small(11)?, small(13)?);
        DateTime::new(year, month, day, hour, minute, second, 0).ok().map(Self)
    }

    /// Reads `Sun, 30 Aug 2015 12:36:00 GMT`, as in the header `Date`.
    pub(super) fn http(text: &str) -> Option<Self> {
        let stamp = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self(TimeZone::UTC.to_datetime(stamp)))
    }

    /// YYYYMMDD.
    pub(super) fn date(self) -> String {
        let Self(time) = self;
        format!("{:04}{:02}{:02}", time.year(), time.month(), time.day())
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        // Only the year -9999 and 9999 have times outside of what a timestamp can be.
        TimeZone::UTC.to_timestamp(self.0).map_or(i64::MIN, Timestamp::as_second)
    }
}

impl fmt::Display for Time {
    /// `20150830T123600Z`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(time) = self;
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        write!(out, "{}T{hour:02}{minute:02}{second:02}Z", self.date())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_both_forms_and_printed_in_one() {
        let time = Time::basic("20150830T123600Z").unwrap();
        assert_eq!(time.to_string(), "20150830T123600Z");
        assert_eq!(time.seconds(), 1_440_938_160);
        assert_eq!(Time::at(1_440_938_160), Some(time));
        assert_eq!(Time::http("Sun, 30 Aug 2015 12:36:00 GMT"), Some(time));
        assert_eq!(Time::basic("20240229T235959Z").unwrap().date(), "20240229");
        for wrong in [
            "",
            "20150830T123600",
            "20150830T123600z",
            "2015-08-30T12:36:00Z",
            "20150830T1236+0Z",
            "20150230T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "２０150830T123600Z",
        ] {
            assert_eq!(Time::basic(wrong), None, "{wrong}");
        }
        assert_eq!(Time::http("yesterday"), None);
    }
}
