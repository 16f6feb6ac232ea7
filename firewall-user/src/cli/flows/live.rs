//! `secgroup flows watch` and `secgroup flows top`: what changes from one reading to the next.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;

use super::filter::{Chosen, Filter};
use super::print;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{self, Format, Output};
use crate::cli::{Context, Exit};
use crate::observe::flows::document::{FlowEvent, FlowTop};
use crate::observe::flows::totals::{By, Top};
use crate::observe::flows::{Kind, Poll, Poller};

/// The least time between two readings.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn interval(word: &str) -> Result<Duration, String> {
    let seconds = word.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = match seconds {
        Some(time) => time,
        None => humantime::parse_duration(word)
            .map_err(|_| "write seconds as 2 or 0.5, or a time span as 500ms or 2s".to_owned())?,
    };
    if time < MIN_INTERVAL {
        return Err("at least 100ms".to_owned());
    }
    Ok(time)
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    /// Time between two readings of the flow tables, in seconds or as 500ms
    #[arg(long, value_name = "DURATION", default_value = "1", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TopOptions {
    /// Add the flows up by this
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Time over which the rates are measured, in seconds or as 500ms
    #[arg(long, value_name = "DURATION", default_value = "2", value_parser = interval)]
    interval: Duration,
    /// Number of flows, or of values with --by
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Measure and print again until interrupted
    #[arg(long)]
    repeat: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    filter: Filter,
}

/// Readings with filters whose names are looked up again each time: groups and interfaces come and go.
struct Readings<'a> {
    context: &'a Context,
    filter: &'a Filter,
    poller: Poller,
}

impl Readings<'_> {
    fn next(&mut self) -> Result<(Chosen, Poll)> {
        let control = self.context.control_reading()?;
        let model = control.model()?;
        let chosen = self.filter.check(&control, &model)?;
        Ok((chosen, self.poller.poll_attached(&control, &model)?))
    }
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

impl Watch {
    pub(super) fn run(&self, context: &Context) -> Result<Exit> {
        self.watch(context).context("flows watch")?;
        Ok(Exit::Done)
    }

    fn watch(&self, context: &Context) -> Result<()> {
        let mut interrupt = Interrupt::new()?;
        let mut readings = Readings { context, filter: &self.filter, poller: Poller::default() };
        readings.next()?;
        let mut beyond = 0;
        let (mut new, mut ended) = (0_u64, 0_u64);
        while !interrupt.wait(self.interval) {
            let (chosen, poll) = readings.next()?;
            beyond += poll.beyond_limit;
            for change in poll.changes.iter().filter(|change| chosen.has(&change.flow)) {
                match change.kind {
                    Kind::New => new += 1,
                    Kind::Ended => ended += 1,
                    Kind::Existing | Kind::Continued => continue,
                }
                match self.output.output {
                    Format::Json => {
                        let Some(event) = FlowEvent::new(change, now()) else { continue };
                        output::compact(&event)?;
                    }
                    Format::Table => {
                        let Some(line) = print::event(change) else { continue };
                        output::lines([format!("{} {line}", clock())])?;
                    }
                }
            }
        }
        output::note(&format!("{} began, {ended} ended", output::many(new, "flow")));
        if beyond > 0 {
            let times = output::many(beyond, "time");
            output::note(&format!("{times} a flow was not watched: there are too many"));
        }
        Ok(())
    }
}

/// The time of day in UTC, with milliseconds.
fn clock() -> String {
    Timestamp::now().strftime("%H:%M:%S%.3f").to_string()
}

impl TopOptions {
    pub(super) fn run(&self, context: &Context) -> Result<Exit> {
        self.top(context).context("flows top")
    }

    fn top(&self, context: &Context) -> Result<Exit> {
        let mut interrupt = Interrupt::new()?;
        let mut readings = Readings { context, filter: &self.filter, poller: Poller::default() };
        readings.next()?;
        while !interrupt.wait(self.interval) {
            let (chosen, mut poll) = readings.next()?;
            poll.changes.retain(|change| chosen.has_tier(change.flow.entry.tier()));
            if poll.beyond_limit > 0 {
                output::note(&format!("{} flows are not measured: too many", poll.beyond_limit));
            }
            let top = Top::new(poll, &chosen.query, self.by, self.limit);
            match (self.output.output, self.repeat) {
                (Format::Json, true) => output::compact(&FlowTop::new(&top, now()))?,
                (Format::Json, false) => output::value(&FlowTop::new(&top, now()))?,
                (Format::Table, _) => print::top(super::header(self.by), &top)?,
            }
            if !self.repeat {
                return Ok(Exit::Done);
            }
            if self.output.output == Format::Table {
                output::lines([""])?;
            }
        }
        // Without --repeat nothing was printed yet.
        Ok(if self.repeat { Exit::Done } else { Exit::Interrupted })
    }
}
