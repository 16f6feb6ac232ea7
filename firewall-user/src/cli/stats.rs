//! `secgroup stats`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use firewall_ebpf::policy::Counter;
use serde_json::json;

use super::interfaces::Selection;
use super::output::{self, Format, Output};
use super::{Context, Exit};
use crate::control::{Control, nothing_attached};
use crate::dataplane::tables::counters::ByReason;
use crate::model::Interface;

#[derive(Debug, Args)]
#[command(after_help = "\
Every packet is counted once, by interface, direction and reason. JSON has every counter, the table
those that are not zero. docs/reasons.md explains the reasons.

Examples:
  secgroup stats eth0
  secgroup stats --watch
  secgroup stats --output json | jq '.Interfaces[].Counters[] | select(.Verdict == \"drop\")'")]
pub(super) struct Command {
    #[command(flatten)]
    selection: Selection,
    /// Print again every second, with packets per second, until interrupted
    #[arg(long, conflicts_with = "output")]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// Counters by slot.
type Counters = BTreeMap<u16, ByReason>;

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        self.print(context).context("stats")
    }

    fn print(self, context: &Context) -> Result<Exit> {
        let control = context.control()?;
        let model = control.model()?;
        let interfaces = self.selection.of(&model)?;
        let counters = read(&control, &interfaces)?;
        match self.output.output {
            Format::Json => output::value(&document(&interfaces, &counters))?,
            Format::Table if self.watch => watch(&control, &interfaces, counters)?,
            Format::Table => table(&interfaces, &counters, None)?,
        }
        Ok(Exit::Done)
    }
}

fn read(control: &Control, interfaces: &[&Interface]) -> Result<Counters> {
    let maps = control.maps()?.ok_or_else(nothing_attached)?;
    interfaces.iter().map(|one| Ok((one.slot, maps.counters(one.slot)?))).collect()
}

fn watch(control: &Control, interfaces: &[&Interface], mut before: Counters) -> Result<()> {
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = read(control, interfaces)?;
        if stdout().is_terminal() {
            // Home, and clear what follows.
            print!("\x1b[H\x1b[J");
            stdout().flush()?;
        }
        table(interfaces, &now, Some(&before))?;
        before = now;
    }
}

fn table(interfaces: &[&Interface], now: &Counters, before: Option<&Counters>) -> Result<()> {
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
    let header = ["INTERFACE", "DIRECTION", "VERDICT", "REASON", "PACKETS", "BYTES"];
    let numbers = ["PACKETS", "BYTES", "PER-SECOND"];
    if before.is_some() {
        let [a, b, c, d, e, f] = header;
        output::table([a, b, c, d, e, f, "PER-SECOND"], &numbers, rows)
    } else {
        let rows = rows.into_iter().map(|[a, b, c, d, e, f, _]| [a, b, c, d, e, f]);
        output::table(header, &numbers, rows)
    }
}

fn document(interfaces: &[&Interface], counters: &Counters) -> serde_json::Value {
    let interfaces: Vec<_> = interfaces
        .iter()
        .map(|interface| {
            let rows: Vec<_> = counters[&interface.slot]
                .iter()
                .map(|((direction, reason), Counter { packets, bytes })| {
                    json!({
                        "Direction": direction.name(),
                        "Verdict": reason.verdict().name(),
                        "Reason": reason.name(),
                        "Packets": packets,
                        "Bytes": bytes,
                    })
                })
                .collect();
            json!({
                "NetworkInterfaceId": interface.id.to_string(),
                "Device": interface.device,
                "Netns": interface.netns,
                "Counters": rows,
            })
        })
        .collect();
    json!({ "SchemaVersion": output::SCHEMA_VERSION, "Interfaces": interfaces })
}
