//! The records of dropped packets: those of the journal, and those that come.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use self::row::Row;
use crate::console::answer::{Form, Problem, html, with_type};
use crate::console::filters::{Filters, Input, Of};
use crate::console::journal;
use crate::console::routes::{Asked, Shared};
use crate::console::texts;
use crate::console::view::{Frame, MAX_ROWS, link};
use crate::observe::journal::{Account, Coverage};
use crate::observe::record::{PacketRecord, Verdict};

mod row;
pub(in crate::console) mod stream;

/// The words of this page that are no filters: the time before now, and the number of a record.
const OWN: [&str; 3] = ["since", "before", "after"];

#[derive(Template)]
#[template(path = "drops.html")]
struct Page {
    frame: Frame,
    filters: Filters,
    clear: &'static str,
    summary: String,
    /// What the journal covers, in one sentence.
    coverage: String,
    /// Why nothing is recorded now.
    problem: Option<String>,
    /// Packets that no record counts.
    lost: u64,
    rows: Vec<Row>,
    /// What the script fills in for a new record.
    empty: Row,
    max_rows: usize,
    /// Where new records come from.
    stream: String,
    newest: Option<String>,
    older: Option<String>,
}

/// Which records a page has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    /// Those whose last packet came at this time or later: milliseconds since 1970.
    since: Option<i64>,
    /// Those with a lower number.
    before: Option<u64>,
    /// Those with a higher one.
    after: Option<u64>,
}

impl Window {
    fn of(words: &[(String, String)]) -> Result<Self, Problem> {
        let mut window = Self::default();
        for (name, value) in words {
            let number = || {
                let malformed =
                    |_| Problem::usage(format!("{name} {value:?} is not a number"), None);
                value.parse().map(Some).map_err(malformed)
            };
            match name.as_str() {
                "since" => window.since = Some(since(value)?),
                "before" => window.before = number()?,
                "after" => window.after = number()?,
                _ => {}
            }
        }
        Ok(window)
    }

    /// Whether it has a record.
    fn has(&self, record: &PacketRecord) -> bool {
        let Self { since, before, after } = *self;
        since.is_none_or(|since| record.last >= since)
            && before.is_none_or(|before| record.id < before)
            && after.is_none_or(|after| record.id > after)
    }
}

/// The time that was so long ago, in milliseconds since 1970.
fn since(value: &str) -> Result<i64, Problem> {
    let ago = humantime::parse_duration(value).map_err(|_| {
        let hint = "write a time before now, such as 30s, 15m or 2h".to_owned();
        Problem::usage(format!("since {value:?} is no time"), Some(hint))
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(i64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(i64::MAX))
}

/// Whether a record is of packets that were dropped, or would have been.
fn is_drop(record: &PacketRecord) -> bool {
    record.verdict != Verdict::Pass
}

/// The page, or its records as `secgroup drops --output json` prints them: one in a line.
pub(in crate::console) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
) -> Result<Response, Problem> {
    let Asked { form, words, .. } = asked;
    let (read, words) = shared.read(move |shared| Ok((read(shared, &words), words))).await?;
    match read {
        Ok(read) if form == Form::Json => lines(&read.records),
        Ok(read) => Ok(html(StatusCode::OK, &Page::new(&words, read, None))),
        Err(problem) if form == Form::Html && problem.status == StatusCode::BAD_REQUEST => {
            let page = Page::new(&words, Read::default(), Some(problem));
            Ok(html(StatusCode::BAD_REQUEST, &page))
        }
        Err(problem) => Err(problem),
    }
}

/// What was read of the journal.
#[derive(Default)]
struct Read {
    window: Window,
    /// The newest first.
    records: Vec<PacketRecord>,
    /// Whether older ones match.
    has_older: bool,
    /// The highest number that there was before they were read.
    newest: u64,
    coverage: Arc<Coverage>,
    /// Why nothing is recorded now.
    problem: Option<String>,
}

fn read(shared: &Shared, words: &[(String, String)]) -> Result<Read, Problem> {
    let window = Window::of(words)?;
    let (control, reader) = (shared.control()?, shared.journal()?);
    let checked = journal::check(words, &OWN, &control, &reader)?;
    // Before the others: what comes meanwhile is sent by the stream, and not left out.
    let newest = reader.last(1, |_| true).map_err(anyhow::Error::from)?;
    let newest = newest.first().map_or(0, |record| record.id);
    let records = reader.last(MAX_ROWS + 1, |record| {
        is_drop(record) && window.has(record) && checked.matches(&record.into())
    });
    let mut records = records.map_err(anyhow::Error::from)?;
    records.reverse();
    let has_older = records.len() > MAX_ROWS;
    records.truncate(MAX_ROWS);
    let coverage = shared.coverage.get(&reader).map_err(anyhow::Error::from)?;
    let problem = shared.recording_problem();
    Ok(Read { window, records, has_older, newest, coverage, problem })
}

fn lines(records: &[PacketRecord]) -> Result<Response, Problem> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, record).map_err(anyhow::Error::from)?;
        text.push(b'\n');
    }
    Ok(with_type("application/x-ndjson", text))
}

impl Page {
    fn new(words: &[(String, String)], read: Read, problem: Option<Problem>) -> Self {
        let Read { window, records, has_older, newest, coverage, problem: recording } = read;
        let mut filters = Filters::new(Of::Drops, &[("since", "Since", "15m")], words);
        let is_live = window.before.is_none() && problem.is_none();
        filters.problem = problem;
        let after = newest.max(records.first().map_or(0, |record| record.id)).to_string();
        let account = coverage.since(window.since.unwrap_or(i64::MIN));
        Self {
            frame: Frame::new("Drops", link("drops.json", words, &[])),
            summary: match (records.len(), has_older, filters.is_used) {
                (0, _, true) => "No record matches.".to_owned(),
                (0, _, false) => "There is no record of a dropped packet.".to_owned(),
                (count, true, _) => format!("{count} records, and there are older ones."),
                (1, false, _) => "1 record.".to_owned(),
                (count, false, _) => format!("{count} records."),
            },
            filters,
            clear: "drops",
            coverage: coverage_text(&coverage, account),
            problem: recording,
            lost: account.map_or(0, |account| account.lost),
            older: records
                .last()
                .filter(|_| has_older)
                .map(|record| link("drops", words, &[("before", &record.id.to_string())])),
            rows: records.iter().map(Row::new).collect(),
            empty: Row::default(),
            max_rows: MAX_ROWS,
            stream: if is_live {
                link("drops.events", words, &[("after", &after)])
            } else {
                String::new()
            },
            newest: window.before.map(|_| link("drops", words, &[("before", ""), ("after", "")])),
        }
    }
}

/// What the journal covers.
fn coverage_text(coverage: &Coverage, account: Option<Account>) -> String {
    let (Some(oldest), Some(newest)) = (coverage.oldest, coverage.newest) else {
        return "The journal is empty; `secgroup serve` writes it.".to_owned();
    };
    let mut text = format!(
        "Records in the journal: {}, from {} to {}.",
        coverage.records,
        texts::time(oldest),
        texts::time(newest)
    );
    if let Some(Account { seen, kept, aggregated, lost, partial, .. }) = account {
        let counted = coverage.open.map(|open| open.counted);
        let lost = match (partial, counted) {
            (false, _) => format!("+ {lost} lost"),
            (true, Some(Some(until))) => {
                format!("+ at least {lost} lost, counted until {}", texts::time(until))
            }
            (true, _) => format!("+ at least {lost} lost: more is not known"),
        };
        text += &format!(
            " Packets of all interfaces: {seen} seen = {kept} recorded + {aggregated} aggregated {lost}."
        );
    }
    text
}
