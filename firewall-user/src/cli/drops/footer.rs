//! What a window covers, told once at its end.

use super::line::Lines;
use crate::cli::output::many;
use crate::clock::Clocks;
use crate::observe::journal::{Account, Coverage};

/// Times that were not covered are told up to this many, the latest ones.
const GAPS: usize = 5;

/// What was looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Where it begins: milliseconds since 1970, UTC.
    pub(super) from: i64,
    /// What was asked for.
    pub(super) since: Option<i64>,
    /// Records that were printed.
    pub(super) printed: u64,
    /// Records that were deleted before.
    pub(super) missed: u64,
    /// Whether `serve` is configured to record.
    pub(super) collects: bool,
}

/// The last lines.
pub(super) fn text(coverage: &Coverage, window: &Window) -> Vec<String> {
    lines_of(coverage, &Lines::local(), Clocks::now().moment.wall, window)
}

fn lines_of(coverage: &Coverage, lines: &Lines, now: i64, window: &Window) -> Vec<String> {
    let Window { from, since, printed, missed, collects } = *window;
    let time = |time| lines.time(time, now);
    let records = many(printed, "record");
    let recording = coverage.recorder.recording;
    let mut text = Vec::new();
    match (coverage.since(from), recording) {
        (Some(account), _) if account.seen > 0 || account.partial || recording.is_none() => {
            let Account { from: begin, to, seen, kept, aggregated, lost, .. } = account;
            let lost = lost_text(coverage, from, (to, lost), &time);
            text.push(format!(
                "{records}; account of all interfaces from {} to {}: {} seen = {kept} recorded + \
                 {aggregated} aggregated{lost}",
                time(begin),
                time(to),
                many(seen, "packet"),
            ));
        }
        (account, Some((began, _))) => {
            let begin = account.map_or(began, |account| account.from).max(from);
            text.push(format!(
                "{records}; no packet was dropped since {}: packets are recorded now",
                time(begin)
            ));
        }
        (None, None) if coverage.oldest.is_some() => {
            text.push(format!("{records}; nothing was recorded since {}", time(from)));
        }
        _ => text.push("nothing was recorded yet".to_owned()),
    }
    if let Some(problem) = &coverage.recorder.problem {
        text.push(format!("records cannot be written now: {problem}"));
    }
    if recording.is_none() {
        let configured = if collects { "" } else { " with `collect = true` in its configuration" };
        text.push(format!(
            "nobody records dropped packets now: `secgroup serve` does{configured}, `secgroup drops --follow` \
             while it runs"
        ));
    }
    let Some(oldest) = coverage.oldest else { return text };
    let gaps = coverage.gaps(from);
    for (from, to) in gaps.iter().rev().take(GAPS).rev() {
        text.push(format!("not covered: {} to {}", time(*from), time(*to)));
    }
    if gaps.len() > GAPS {
        text.push(format!("and {} times before that were not covered either", gaps.len() - GAPS));
    }
    if let Some(since) = since
        && since < oldest
    {
        text.push(format!("since {} only: nothing older is kept", time(oldest)));
    }
    if missed > 0 {
        text.push(format!("{missed} records were deleted before they were printed"));
    }
    if coverage.damaged > 0 {
        text.push(format!("{} damaged lines of the journal were left out", coverage.damaged));
    }
    text
}

/// The packets in no record, with what is not known of them.
fn lost_text(
    coverage: &Coverage,
    from: i64,
    (to, lost): (i64, u64),
    time: &impl Fn(i64) -> String,
) -> String {
    let Coverage { periods, open, recorder, .. } = coverage;
    let open = open.filter(|_| periods.last().is_some_and(|last| last.to >= from));
    let closed = &periods[..periods.len() - usize::from(open.is_some())];
    let was_killed = closed.iter().any(|period| period.to >= from && period.partial);
    let killed = ", as a process that recorded was killed";
    match (open, recorder.recording) {
        (Some(open), Some(_)) => match open.counted {
            // As in the second after many packets came.
            Some(until) if until < to && lost > 0 => {
                format!(" + at least {lost} lost: later than {} not known yet", time(until))
            }
            Some(until) if until < to => "; lost: not known yet".to_owned(),
            Some(until) if was_killed => {
                format!(" + at least {lost} lost until {}{killed}", time(until))
            }
            Some(until) => format!(" + {lost} lost until {}", time(until)),
            None if lost > 0 => format!(" + at least {lost} lost: not known yet"),
            None => "; lost: not known yet".to_owned(),
        },
        (Some(_), None) => format!(" + at least {lost} lost{killed}"),
        (None, _) if was_killed => format!(" + at least {lost} lost{killed}"),
        (None, _) => format!(" + {lost} lost"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::observe::journal::{Open, Recorder};

    const ACCOUNT: Account = Account {
        from: 60_000,
        to: 120_000,
        seen: 100,
        kept: 10,
        aggregated: 70,
        lost: 20,
        partial: false,
    };

    const NOBODY: &str = "nobody records dropped packets now: `secgroup serve` does, `secgroup drops --follow` \
                          while it runs";

    fn told(coverage: &Coverage, window: Window) -> Vec<String> {
        let lines = Lines { zone: TimeZone::UTC, colours: false };
        lines_of(coverage, &lines, 200_000, &window)
    }

    fn window(from: i64) -> Window {
        Window { from, since: None, printed: 3, missed: 0, collects: true }
    }

    fn recorder() -> Recorder {
        Recorder { recording: Some((120_000, 200_000)), problem: None }
    }

    #[test]
    fn the_end_tells_the_account_of_the_window_and_its_limits() {
        let coverage = Coverage {
            oldest: Some(60_000),
            newest: Some(180_000),
            damaged: 1,
            periods: vec![
                ACCOUNT,
                Account { from: 120_000, to: 180_000, partial: true, ..ACCOUNT },
            ],
            ..Coverage::default()
        };
        assert_eq!(
            told(&coverage, Window { since: Some(0), missed: 5, ..window(0) }),
            [
                "3 records; account of all interfaces from 00:01:00.000 to 00:03:00.000: 200 packets seen = 20 \
                 recorded + 140 aggregated + at least 40 lost, as a process that recorded was killed",
                NOBODY,
                "since 00:01:00.000 only: nothing older is kept",
                "5 records were deleted before they were printed",
                "1 damaged lines of the journal were left out",
            ]
        );
        let since = Window { since: Some(190_000), ..window(190_000) };
        assert_eq!(told(&coverage, since)[0], "3 records; nothing was recorded since 00:03:10.000");
        let gap = Coverage {
            periods: vec![ACCOUNT, Account { from: 180_000, to: 190_000, ..ACCOUNT }],
            ..coverage
        };
        let text = told(&gap, window(0));
        assert_eq!(text[1..3], [NOBODY, "not covered: 00:02:00.000 to 00:03:00.000"]);
        let nothing = told(&Coverage::default(), Window { collects: false, ..window(0) });
        assert_eq!(
            nothing,
            [
                "nothing was recorded yet",
                "nobody records dropped packets now: `secgroup serve` does with `collect = true` in its \
                 configuration, `secgroup drops --follow` while it runs"
            ]
        );
    }

    #[test]
    fn losses_of_the_period_that_has_not_ended_are_told_with_the_time_of_their_count() {
        let open =
            Account { from: 120_000, to: 180_000, partial: true, lost: 0, seen: 80, ..ACCOUNT };
        let coverage = |counted, recorder| Coverage {
            oldest: Some(60_000),
            periods: vec![ACCOUNT, open],
            open: Some(Open { from: 120_000, counted }),
            recorder,
            ..Coverage::default()
        };
        for (counted, recorder, from, end) in [
            (Some(181_000), recorder(), 0, " + 20 lost until 00:03:01.000"),
            (Some(181_000), recorder(), 150_000, " + 0 lost until 00:03:01.000"),
            (Some(179_000), recorder(), 150_000, "; lost: not known yet"),
            (
                Some(179_000),
                recorder(),
                0,
                " + at least 20 lost: later than 00:02:59.000 not known yet",
            ),
            (None, recorder(), 0, " + at least 20 lost: not known yet"),
            (None, recorder(), 150_000, "; lost: not known yet"),
            (
                Some(181_000),
                Recorder::default(),
                150_000,
                " + at least 0 lost, as a process that recorded was killed",
            ),
        ] {
            let text = told(&coverage(counted, recorder), window(from));
            assert!(text[0].ends_with(&format!("aggregated{end}")), "{text:?}");
        }
    }

    #[test]
    fn no_drops_and_nobody_who_records_are_told_apart() {
        let account = Account { from: 60_000, to: 120_000, ..Account::default() };
        let coverage = |recorder| Coverage {
            oldest: Some(60_000),
            periods: vec![account],
            recorder,
            ..Coverage::default()
        };
        for (from, since) in
            [(0, "00:01:00.000"), (90_000, "00:01:30.000"), (150_000, "00:02:30.000")]
        {
            let text = told(&coverage(recorder()), window(from));
            let expected =
                format!("3 records; no packet was dropped since {since}: packets are recorded now");
            assert_eq!(text, [expected]);
            let text = told(&coverage(Recorder::default()), window(from));
            assert!(text.len() == 2 && text[1] == NOBODY, "{text:?}");
        }
        let problem = Some("the disk is full".to_owned());
        let text = told(&coverage(Recorder { problem, ..recorder() }), window(0));
        assert_eq!(text[1..], ["records cannot be written now: the disk is full"]);
    }

    #[test]
    fn of_many_gaps_the_latest_are_told_and_the_others_counted() {
        let minute = |minute: i64| minute * 60_000;
        let period = |at: i64| Account { from: minute(at), to: minute(at) + 1000, ..ACCOUNT };
        for (periods, gaps, first, rest) in [
            (6, 5, "not covered: 00:00:01.000 to 00:01:00.000", None),
            (
                8,
                5,
                "not covered: 00:02:01.000 to 00:03:00.000",
                Some("and 2 times before that were not covered either"),
            ),
        ] {
            let coverage = Coverage {
                oldest: Some(0),
                periods: (0..periods).map(period).collect(),
                ..Coverage::default()
            };
            let text = told(&coverage, window(0));
            assert_eq!(text[2], first);
            let found = text.iter().filter(|line| line.starts_with("not covered")).count();
            assert_eq!(found, gaps, "{text:?}");
            // Nothing older is missing, was deleted or is damaged.
            assert_eq!(text.get(2 + gaps).map(String::as_str), rest, "{text:?}");
        }
    }
}
