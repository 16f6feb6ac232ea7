//! What a window covers, told once at its end.

use super::line::Lines;
use crate::clock::Clocks;
use crate::observe::journal::{Account, Coverage};

/// Times that were not covered are told up to this many, the latest ones.
const GAPS: usize = 5;

/// The last lines. `from` is where the window begins, `since` what was asked for.
pub(super) fn text(
    coverage: &Coverage,
    from: i64,
    since: Option<i64>,
    printed: u64,
    missed: u64,
) -> Vec<String> {
    let now = Clocks::now().moment.wall;
    lines_of(coverage, &Lines::local(), now, from, since, printed, missed)
}

fn lines_of(
    coverage: &Coverage,
    lines: &Lines,
    now: i64,
    from: i64,
    since: Option<i64>,
    printed: u64,
    missed: u64,
) -> Vec<String> {
    let time = |time| lines.time(time, now);
    let mut text = Vec::new();
    let Some(oldest) = coverage.oldest else {
        return vec![
            "nothing was recorded yet: `secgroup serve` records all the time, `secgroup drops --follow` while it \
             runs"
                .to_owned(),
        ];
    };
    match coverage.since(from) {
        Some(Account { from, to, seen, kept, aggregated, lost, partial }) => {
            text.push(format!(
                "{printed} of {kept} records; {} to {}: {seen} packets seen = {kept} recorded + {aggregated} \
                 aggregated + {lost} lost{}",
                time(from),
                time(to),
                if partial { ", as far as is known yet" } else { "" }
            ));
        }
        None => text.push(format!("{printed} records; nothing was recorded since {}", time(from))),
    }
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

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn the_end_tells_the_account_of_the_window_and_its_limits() {
        let lines = Lines { zone: TimeZone::UTC, colours: false };
        let account = Account {
            from: 60_000,
            to: 120_000,
            seen: 100,
            kept: 10,
            aggregated: 70,
            lost: 20,
            partial: false,
        };
        let coverage = Coverage {
            oldest: Some(60_000),
            newest: Some(180_000),
            damaged: 1,
            periods: vec![
                account,
                Account { from: 120_000, to: 180_000, partial: true, ..account },
            ],
            ..Coverage::default()
        };
        let text =
            |from, since, missed| lines_of(&coverage, &lines, 200_000, from, since, 3, missed);
        assert_eq!(
            text(0, Some(0), 5),
            [
                "3 of 20 records; 00:01:00.000 to 00:03:00.000: 200 packets seen = 20 recorded + 140 \
                 aggregated + 40 lost, as far as is known yet",
                "since 00:01:00.000 only: nothing older is kept",
                "5 records were deleted before they were printed",
                "1 damaged lines of the journal were left out",
            ]
        );
        assert_eq!(
            text(190_000, Some(190_000), 0)[0],
            "3 records; nothing was recorded since 00:03:10.000"
        );
        let gap = Coverage {
            periods: vec![account, Account { from: 180_000, to: 190_000, ..account }],
            ..coverage
        };
        let text = lines_of(&gap, &lines, 200_000, 0, None, 3, 0);
        assert_eq!(text[1], "not covered: 00:02:00.000 to 00:03:00.000");
        assert!(
            lines_of(&Coverage::default(), &lines, 0, 0, None, 0, 0)[0].starts_with("nothing was")
        );
    }

    #[test]
    fn of_many_gaps_the_latest_are_told_and_the_others_counted() {
        let lines = Lines { zone: TimeZone::UTC, colours: false };
        let minute = |minute: i64| minute * 60_000;
        let period = |at: i64| Account {
            from: minute(at),
            to: minute(at) + 1000,
            seen: 1,
            kept: 1,
            aggregated: 0,
            lost: 0,
            partial: false,
        };
        for (periods, told, first, rest) in [
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
            let text = lines_of(&coverage, &lines, minute(60), 0, Some(0), 3, 0);
            assert_eq!(text[1], first);
            let gaps = text.iter().filter(|line| line.starts_with("not covered")).count();
            assert_eq!(gaps, told, "{text:?}");
            // Nothing older is missing, was deleted or is damaged.
            assert_eq!(text.get(1 + told).map(String::as_str), rest, "{text:?}");
        }
    }
}
