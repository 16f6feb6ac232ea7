//! `secgroup stats`

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::interfaces::Selection;
use super::interrupt::Interrupt;
use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::control::Control;
use crate::model::Interface;
use crate::observe::stats::{Counters, StatsDocument, read};

#[derive(Debug, Args)]
#[command(after_help = "\
Every packet is counted once, by interface, direction and reason. The table has the counters that are
not zero, the JSON document has all. docs/reasons.md explains the reasons.

Exit code 3: nothing is attached.

Examples:
  secgroup stats eth0
  secgroup stats --watch
  secgroup stats --output json | jq '.Interfaces[].Counters[] | select(.Verdict == \"drop\")'")]
pub(super) struct Command {
    #[command(flatten)]
    selection: Selection,
    /// Print every second, with packets per second, until interrupted
    #[arg(long, conflicts_with = "output")]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        self.read_and_print(context).context("stats")
    }

    fn read_and_print(self, context: &Context) -> Result<Exit> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let interfaces = self.selection.of(control.pins(), &model)?;
        let counters = read(&control, &interfaces)?;
        match self.output.output {
            Format::Json => output::value(&StatsDocument::new(&interfaces, &counters))?,
            Format::Table if self.watch => watch(&control, &interfaces, counters)?,
            Format::Table => print(&interfaces, &counters, None)?,
        }
        Ok(Exit::Done)
    }
}

fn watch(control: &Control, interfaces: &[&Interface], mut before: Counters) -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    while !interrupt.wait(Duration::from_secs(1)) {
        let now = read(control, interfaces)?;
        if stdout().is_terminal() {
            // Cursor to the top left; clear the screen from there.
            print!("\x1b[H\x1b[J");
            stdout().flush()?;
        }
        print(interfaces, &now, Some(&before))?;
        before = now;
    }
    Ok(())
}

fn print(interfaces: &[&Interface], now: &Counters, before: Option<&Counters>) -> Result<()> {
    let mut rows = Vec::new();
    for interface in interfaces {
        for ((direction, reason), counter) in &now[&interface.slot] {
            if counter.packets == 0 {
                continue;
            }
            let rate = before.map(|before| {
                let earlier = before[&interface.slot][&(*direction, *reason)].packets;
                counter.packets.saturating_sub(earlier).to_string()
            });
            rows.push([
                interface.label(),
                direction.name().to_owned(),
                reason.verdict().name().to_owned(),
                reason.name().to_owned(),
                counter.packets.to_string(),
                counter.bytes.to_string(),
                rate.unwrap_or_default(),
            ]);
        }
    }
    let [interface, direction, verdict, reason] =
        ["INTERFACE", "DIRECTION", "VERDICT", "REASON"].map(Column::text);
    let [packets, bytes, rate] = ["PACKETS", "BYTES", "PER SECOND"].map(Column::number);
    let (verdict, bytes) = (verdict.dropped(1), bytes.dropped(2));
    if before.is_some() {
        table([interface, direction, verdict, reason, packets, bytes, rate], rows)
    } else {
        let rows = rows.into_iter().map(|[a, b, c, d, e, f, _]| [a, b, c, d, e, f]);
        table([interface, direction, verdict, reason, packets, bytes], rows)
    }
}
