//! `secgroup flow-log tail`

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::fields;
use crate::cli::collecting::{self, Collecting};
use crate::cli::failure;
use crate::cli::output;
use crate::cli::{Context, Exit};
use crate::clock::Clocks;
use crate::control::{Control, NothingAttached};
use crate::model::Model;
use crate::observe::collector::hub::Hub;
use crate::observe::flow_logs::aggregate::{Aggregator, Bounds, Closed, Traffic};
use crate::observe::flow_logs::delivery::{READ_INTERVAL, origin};
use crate::observe::flow_logs::field::Format;
use crate::observe::flow_logs::input::Input;
use crate::observe::flow_logs::lacking::Lacking;
use crate::observe::flow_logs::packets::{Collected, Journalled};
use crate::observe::flow_logs::record::LogStatus;
use crate::observe::query::{Checked, Query, Stored};

#[derive(Debug, Args)]
#[command(after_help = "\
Ends at Ctrl-C, with the records of the interval that is not over.

Examples:
  secgroup flow-log tail
  secgroup flow-log tail --interval 60 --traffic reject --port ssh")]
pub(in crate::cli) struct Tail {
    /// Seconds of a record, at most
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=600)
    )]
    interval: u32,
    /// End after as many intervals
    #[arg(long, value_name = "COUNT")]
    intervals: Option<u64>,
    /// Packets: those that passed, those that were dropped, or all
    #[arg(long, default_value = "all", value_parser = ["accept", "reject", "all"])]
    traffic: String,
    /// Fields of a line [default: every one of versions 2 to 5 and of secgroup]
    #[arg(long, value_name = "FIELDS", value_parser = fields)]
    format: Option<Format>,
    #[command(flatten)]
    query: Query,
}

/// What is printed of each interval.
struct Printer<'a> {
    context: &'a Context,
    format: Format,
    traffic: Traffic,
    /// `None` without a filter.
    chosen: Option<Checked>,
}

impl Tail {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { interval, intervals, traffic, format, query } = self;
        let format = format.unwrap_or_else(Format::all);
        let control = context.control_reading()?;
        control.maps()?.ok_or(NothingAttached)?;
        let model = control.model()?;
        let is_everything = query.is_empty() && !query.not;
        let checked = query.check(&Stored { control: &control, model: &model })?;
        let mut lacking = Lacking::default();
        lacking.add(
            checked.query(),
            Path::new("flow logs"),
            &Format::columns(&Format::all().header()),
        );
        lacking.texts().for_each(|text| failure::warn(&anyhow!(text)));
        let traffic = Traffic::named(&traffic.to_ascii_uppercase()).unwrap_or(Traffic::All);
        output::lines([format.header()])?;
        let chosen = (!is_everything).then_some(checked);
        let printer = Printer { context, format, traffic, chosen };
        let runtime = Builder::new_current_thread().enable_all().build().context("start")?;
        runtime.block_on(printer.follow(interval, intervals))?;
        Ok(Exit::Done)
    }
}

impl Printer<'_> {
    async fn follow(&self, seconds: u32, intervals: Option<u64>) -> Result<()> {
        let mut interrupt = signal(SignalKind::interrupt()).context("wait for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("wait for signals")?;
        let mut hangup = signal(SignalKind::hangup()).context("wait for signals")?;
        let (mut input, collecting) = self.input()?;
        let began = now();
        let mut aggregator = Aggregator::new(seconds, Bounds::default(), began);
        let mut printed = 0;
        self.read(&mut input, &mut aggregator)?;
        while intervals.is_none_or(|intervals| printed < intervals) {
            let step = i64::try_from(READ_INTERVAL.as_millis()).unwrap_or(i64::MAX);
            let wait = aggregator.next_end().min(now() + step) - now();
            tokio::select! {
                () = sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))) => {}
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
            }
            let model = self.read(&mut input, &mut aggregator)?;
            for closed in aggregator.close(now()) {
                printed += 1;
                self.print(&model, &closed)?;
            }
        }
        // Its last records come now.
        drop(collecting);
        if intervals.is_some_and(|intervals| printed >= intervals) {
            return Ok(());
        }
        let model = self.read(&mut input, &mut aggregator)?;
        aggregator.end(now()).iter().try_for_each(|closed| self.print(&model, closed))
    }

    /// Flows and records: of a collector of this process, or where another process collects, of the journal.
    fn input(&self) -> Result<(Input, Option<Collecting>)> {
        let hub = Arc::<Hub>::default();
        Ok(match collecting::open(self.context, Arc::clone(&hub))? {
            Some(collector) => {
                let source = Box::new(Collected::new(hub));
                (Input::new(source), Some(Collecting::run(collector)?))
            }
            None => (Input::new(Box::new(Journalled::open(&self.context.paths.state_dir)?)), None),
        })
    }

    fn read(&self, input: &mut Input, aggregator: &mut Aggregator) -> Result<Arc<Model>> {
        let control = Control::open_read_only(&self.context.paths, self.context.config)?;
        let model = control.shared_model()?;
        let now = now();
        let (time, found) = input.read(&control, &model, now)?;
        for (interface, packets) in found.packets {
            aggregator.add(&interface, time, packets);
        }
        let records = input.take(&model, self.traffic != Traffic::Reject);
        for (interface, packets) in records.packets {
            aggregator.add(&interface, packets.last, packets);
        }
        for (interface, skipped) in found.skipped.into_iter().chain(records.skipped) {
            aggregator.skip(&interface, time, skipped);
        }
        Ok(model)
    }

    fn print(&self, model: &Model, closed: &Closed) -> Result<()> {
        let mut out = output::stdout();
        for interface in model.interfaces.values() {
            let origin = Arc::new(origin(model, &self.context.config.ec2, interface));
            for record in closed.records(&origin, self.traffic) {
                let is_chosen = match &self.chosen {
                    None => true,
                    Some(_) if record.status == Some(LogStatus::NoData) => false,
                    Some(checked) => {
                        record.status == Some(LogStatus::SkipData)
                            || checked.matches(&record.subject())
                    }
                };
                if is_chosen {
                    writeln!(out, "{}", record.line(&self.format))?;
                }
            }
        }
        Ok(out.flush()?)
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    Clocks::now().moment.wall
}
