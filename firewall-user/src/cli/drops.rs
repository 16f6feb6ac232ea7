//! `secgroup drops`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::collecting::{self, Collecting};
use super::interrupt::Interrupt;
use super::output::Output;
use super::since::{self, Since};
use super::{Context, Exit, failure, output};
use crate::clock::Clocks;
use crate::observe::journal::{self, Entry, Follow, Reader};
use crate::observe::query::{Checked, Or, Query, Recorded, Stored, Subject};
use crate::observe::record::{PacketRecord, Verdict};
use footer::Window;
use sink::Sink;

mod footer;
mod line;
mod sink;

pub(super) use line::Lines;

/// So many records are printed where neither `--since` nor `--last` nor `--follow` is given.
const DEFAULT_LAST: usize = 20;

/// Print dropped packets: when, where, why, and which rule came closest
///
/// Packets of one interface, direction, reason and 5-tuple within a second are one line. What a line says was
/// known when the packets came: later changes of rules do not change it.
#[derive(Debug, Args)]
#[command(mut_arg("state", |arg| arg.hide(true)), after_help = "\
At the end, a line says what became of all packets that were to be recorded: those seen are the lines, plus those
that a line counts besides its first, plus those lost. `would-drop`: the interface is in audit mode, and the packet
passed. A JSON record is one line. docs/drops.md explains the fields, docs/filters.md the filters.

Examples:
  secgroup drops --follow --port https
  secgroup drops --since 2h --interface eth0 --from 192.0.2.0/24
  secgroup drops --default-deny --not --protocol udp
  secgroup drops --since 10m --pcap drops.pcapng
  secgroup drops --follow --pcap - | wireshark -k -i -

Exit code 3: the interface, rule or group of a filter never existed.")]
pub(super) struct Command {
    /// Print new ones as they come, until interrupted; without --since and --last only those
    #[arg(short, long)]
    follow: bool,
    /// From when on: 30s, 10m, 2h, 1d, or a time: 18:00, "2026-11-30 18:00", 2026-11-30T18:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    since: Option<Since>,
    /// The last so many [default: 20 without --since]
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Also packets that passed without a flow, where these are recorded
    #[arg(long)]
    passes: bool,
    /// Write the packets to this file too, in the form of pcapng with verdict, reason and rule as comments; to
    /// standard output in place of lines with -
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    query: Query,
    #[command(flatten)]
    output: Output,
}

/// How long new records are not looked for while there are none.
const INTERVAL: Duration = Duration::from_millis(100);

/// Prints the records that come as long as it is not interrupted, and ends the collector of this process then.
fn follow(
    mut follow: Follow,
    mut collecting: Option<Collecting>,
    choice: &Choice,
    mut interrupt: Interrupt,
    sink: &mut Sink,
) -> Result<()> {
    loop {
        // Before the last look, so that it finds what the collector wrote at its end.
        let is_over = interrupt.wait(INTERVAL);
        if is_over {
            collecting = None;
        }
        loop {
            let entries = follow.read(1000)?;
            let is_last = entries.is_empty();
            for entry in entries {
                if let Entry::Record(record) = entry
                    && choice.matches(&record)
                {
                    sink.write(&record)?;
                }
            }
            sink.flush()?;
            if is_last {
                break;
            }
        }
        if is_over {
            sink.missed(follow.missed());
            drop(collecting);
            return Ok(());
        }
    }
}

/// What is chosen.
struct Choice {
    query: Checked,
    passes: bool,
    /// Milliseconds since 1970.
    since: Option<i64>,
}

impl Choice {
    fn matches(&self, record: &PacketRecord) -> bool {
        (self.passes || record.verdict != Verdict::Pass)
            && self.since.is_none_or(|since| record.last >= since)
            && self.query.matches(&Subject::from(record))
    }
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        self.print(context).context("drops")?;
        Ok(Exit::Done)
    }

    fn print(&self, context: &Context) -> Result<()> {
        // Before anything is printed, so that an interrupt never leaves half a line.
        self.query.check_of_drops(self.passes)?;
        let interrupt = self.follow.then(Interrupt::new).transpose()?;
        let reader = Reader::open(&journal::directory(&context.paths.state_dir))?;
        let begun = Clocks::now().moment.wall;
        let since = self.since.as_ref().map(|since| since.before(begun)).transpose()?;
        let choice = Choice { query: self.check(context, &reader)?, passes: self.passes, since };
        let mut sink = Sink::new(self.output.output, self.pcap.as_deref())?;

        // It writes what an earlier collector has left, which is history too.
        let collector = if self.follow { collecting::open_or_warn(context) } else { None };
        // Records up to this number are history, those after it are followed.
        let newest = reader.last(1, |_| true)?.first().map_or(0, |record| record.id);
        let followed = match interrupt {
            Some(interrupt) => Some((interrupt, reader.follow(Some(newest))?)),
            None => None,
        };
        let collecting = collector.map(Collecting::run).transpose()?;
        if collecting.is_some() {
            output::note(
                "no `secgroup serve` records dropped packets: this command does until it ends",
            );
        }
        let mut from = begun;
        if let Some(first) = self.history(&reader, &choice, newest, &mut sink)? {
            from = first.min(from);
        }
        let from = since.unwrap_or(from);
        if let Some((interrupt, records)) = followed {
            sink.flush()?;
            follow(records, collecting, &choice, interrupt, &mut sink)?;
        }
        let window = Window {
            from,
            since,
            printed: sink.count(),
            missed: sink.missed_records(),
            collects: context.config.records.collect,
        };
        let text = footer::text(&reader.coverage()?, &window);
        sink.end(&text)
    }

    /// Prints what is there already; returns the beginning of the window in which that was looked for, if it has no
    /// other.
    fn history(
        &self,
        reader: &Reader,
        choice: &Choice,
        newest: u64,
        sink: &mut Sink,
    ) -> Result<Option<i64>> {
        let is_chosen = |record: &PacketRecord| record.id <= newest && choice.matches(record);
        let last = match (self.last, choice.since, self.follow) {
            (Some(last), ..) => last,
            (None, Some(since), _) => {
                for entry in reader.since(since)? {
                    if let Entry::Record(record) = entry?
                        && is_chosen(&record)
                    {
                        sink.write(&record)?;
                    }
                }
                return Ok(None);
            }
            (None, None, true) => return Ok(None),
            (None, None, false) => DEFAULT_LAST,
        };
        let records = reader.last(last, is_chosen)?;
        records.iter().try_for_each(|record| sink.write(record))?;
        // With fewer than wanted, all of the journal was looked at.
        let first = records.iter().map(|record| record.first).min();
        Ok(first.filter(|_| records.len() >= last).or(Some(i64::MIN)))
    }

    /// Looks names up in the store, and those that it does not have in the records.
    fn check(&self, context: &Context, reader: &Reader) -> Result<Checked> {
        let query = &self.query;
        let mut recorded = Recorded::default();
        if query.has_names() {
            for entry in reader.entries()? {
                if let Entry::Record(record) = entry? {
                    recorded.add(&Subject::from(&*record));
                }
            }
        }
        if !query.has_names() {
            return query.check(&recorded);
        }
        let stored = || -> Result<_> {
            let control = context.control_reading()?;
            let model = control.model()?;
            Ok((control, model))
        };
        match stored() {
            Ok((control, model)) => {
                let stored = Stored { control: &control, model: &model };
                query.check(&Or(&stored, &recorded))
            }
            Err(error) => {
                failure::warn(&error.context("names are looked up in the records alone"));
                query.check(&recorded)
            }
        }
    }
}
