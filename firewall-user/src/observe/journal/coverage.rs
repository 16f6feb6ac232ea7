//! What the journal covers: from when on, and what was lost.

use super::segment::Head;
use super::{Account, OpenPeriod};

/// What the journal covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The earliest time of a record or account: milliseconds since 1970, UTC.
    pub oldest: Option<i64>,
    /// The latest one.
    pub newest: Option<i64>,
    /// Records.
    pub records: u64,
    /// Bytes of all segments.
    pub size: u64,
    /// Damaged lines, which are not read.
    pub damaged: u64,
    /// What became of the packets, period by period, in the order in which they were collected.
    pub periods: Vec<Account>,
    /// Where records have no account yet, or packets were lost since the last one: the last of the periods.
    pub open: Option<Open>,
    /// Whether the journal is written now.
    pub recorder: Recorder,
}

/// A period without an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its beginning, as in the last of the periods.
    pub from: i64,
    /// Until when the lost packets were counted; `None`: they are not known.
    pub counted: Option<i64>,
}

/// Whether the journal is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorder {
    /// The time that was recorded since the last account, until now; `None`: no process records.
    pub recording: Option<(i64, i64)>,
    /// Why it records, and cannot write.
    pub problem: Option<String>,
}

impl Coverage {
    /// What became of the packets of all periods that end at a time or later, as one account; `None`: nothing was
    /// collected since.
    #[must_use]
    pub fn since(&self, time: i64) -> Option<Account> {
        self.periods.iter().filter(|period| period.to >= time).copied().reduce(Account::joined)
    }

    /// The times between periods that end at a time or later, in which nobody collected, or a collector was killed
    /// before it had told its account: from and to, in milliseconds since 1970. Less than two seconds are left out.
    #[must_use]
    pub fn gaps(&self, time: i64) -> Vec<(i64, i64)> {
        const SHORT: i64 = 2_000;
        let periods = self.periods.iter().map(|period| (period.from, period.to));
        let periods = periods.chain(self.recorder.recording);
        let mut periods: Vec<_> = periods.filter(|(_, to)| *to >= time).collect();
        periods.sort_by_key(|(from, _)| *from);
        let mut gaps = Vec::new();
        let mut end = None;
        for (from, to) in periods {
            if let Some(end) = end
                && from - end > SHORT
            {
                gaps.push((end, from));
            }
            end = end.max(Some(to));
        }
        gaps
    }

    /// Where the last account ends.
    pub(super) fn last_account(&self) -> Option<i64> {
        self.periods.last().map(|account| account.to)
    }

    pub(super) fn add_record(&mut self, head: Head, packets: u64, open: &mut Option<Account>) {
        let Head { first, last, .. } = head;
        self.records += 1;
        self.add_times(first, last);
        let record = Account::of_record(head, packets);
        *open = Some(open.map_or(record, |before| before.joined(record)));
    }

    pub(super) fn add_account(&mut self, account: Account, open: &mut Option<Account>) {
        // The account says what the records before it say, and what they cannot say.
        *open = None;
        self.add_times(account.from, account.to);
        self.periods.push(account);
    }

    /// Adds what came after the last account: the records, and what their writer has told of the period.
    pub(super) fn end(&mut self, records: Option<Account>, told: Option<OpenPeriod>) {
        let counted = told.as_ref().map(|told| told.to);
        let lost = told.filter(|told| told.lost > 0);
        let account = match (records, lost) {
            (records, Some(told)) => Some(told.account(records)),
            (records, None) => records,
        };
        self.open = account.map(|account| Open { from: account.from, counted });
        self.periods.extend(account);
    }

    fn add_times(&mut self, from: i64, to: i64) {
        self.oldest = Some(self.oldest.map_or(from, |oldest| oldest.min(from)));
        self.newest = Some(self.newest.map_or(to, |newest| newest.max(to)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(periods: &[(i64, i64)]) -> Coverage {
        let account = |&(from, to): &(i64, i64)| Account {
            from,
            to,
            seen: 5,
            kept: 2,
            aggregated: 2,
            lost: 1,
            partial: false,
        };
        Coverage { periods: periods.iter().map(account).collect(), ..Coverage::default() }
    }

    #[test]
    fn gaps_are_between_periods_and_not_within_those_that_overlap() {
        for (what, periods, since, gaps) in [
            ("none", &[][..], 0, &[][..]),
            ("one", &[(10, 20_000)], 0, &[]),
            ("two seconds", &[(0, 10_000), (12_000, 20_000)], 0, &[]),
            ("more", &[(0, 10_000), (12_001, 20_000)], 0, &[(10_000, 12_001)]),
            ("a short one within a long one", &[(0, 50_000), (10, 20), (40_000, 60_000)], 0, &[]),
            ("in any order", &[(30_000, 40_000), (0, 10_000)], 0, &[(10_000, 30_000)]),
            (
                "since a time",
                &[(0, 10_000), (20_000, 30_000), (40_000, 50_000)],
                10_001,
                &[(30_000, 40_000)],
            ),
            (
                "also the period that ends then",
                &[(0, 10_000), (20_000, 30_000)],
                10_000,
                &[(10_000, 20_000)],
            ),
        ] {
            assert_eq!(coverage(periods).gaps(since), gaps, "{what}");
        }
    }

    #[test]
    fn an_account_is_of_the_periods_that_end_at_a_time_or_later() {
        let coverage = coverage(&[(0, 10), (10, 20), (20, 30)]);
        for (since, from, seen) in [(0, 0, 15), (10, 0, 15), (11, 10, 10), (30, 20, 5)] {
            let account = coverage.since(since).unwrap();
            assert_eq!((account.from, account.to, account.seen), (from, 30, seen), "{since}");
            assert_eq!(account.seen, account.kept + account.aggregated + account.lost);
        }
        assert_eq!(coverage.since(31), None);
    }
}
