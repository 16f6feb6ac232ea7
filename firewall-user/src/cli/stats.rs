//! `secgroup stats`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use schemars::JsonSchema;
use serde::Serialize;

use super::interfaces::Selection;
use super::json::SCHEMA_VERSION;
use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::control::{Control, NothingAttached};
use crate::dataplane::tables::counters::ByReason;
use crate::model::Interface;

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

/// Counters by slot.
type Counters = BTreeMap<u16, ByReason>;

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

fn read(control: &Control, interfaces: &[&Interface]) -> Result<Counters> {
    let maps = control.maps()?.ok_or(NothingAttached)?;
    interfaces.iter().map(|one| Ok((one.slot, maps.counters(one.slot)?))).collect()
}

fn watch(control: &Control, interfaces: &[&Interface], mut before: Counters) -> Result<()> {
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = read(control, interfaces)?;
        if stdout().is_terminal() {
            // Cursor to the top left; clear the screen from there.
            print!("\x1b[H\x1b[J");
            stdout().flush()?;
        }
        print(interfaces, &now, Some(&before))?;
        before = now;
    }
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

/// The counters of the interfaces.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StatsDocument {
    /// Version of this document: 1.
    schema_version: u32,
    /// The interfaces of the store.
    interfaces: Vec<InterfaceCounters>,
}

/// The counters of an interface.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct InterfaceCounters {
    /// Id of the interface, `eni-…`.
    network_interface_id: String,
    /// Network device.
    device: String,
    /// Named network namespace of the device; null for the one that secgroup runs in.
    netns: Option<String>,
    /// A counter for every direction and reason.
    counters: Vec<ReasonCounter>,
}

/// A counter.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct ReasonCounter {
    /// `ingress` or `egress`.
    direction: &'static str,
    /// `pass` or `drop`.
    verdict: &'static str,
    /// Reason of the verdict (docs/reasons.md).
    reason: &'static str,
    /// Packets since the interface was attached.
    packets: u64,
    /// Bytes of these packets, as whole frames.
    bytes: u64,
}

impl StatsDocument {
    fn new(interfaces: &[&Interface], counters: &Counters) -> Self {
        let interface = |interface: &&Interface| InterfaceCounters {
            network_interface_id: interface.id.to_string(),
            device: interface.device.clone(),
            netns: interface.netns.clone(),
            counters: counters[&interface.slot].iter().map(ReasonCounter::new).collect(),
        };
        let interfaces = interfaces.iter().map(interface).collect();
        Self { schema_version: SCHEMA_VERSION, interfaces }
    }
}

impl ReasonCounter {
    fn new(((direction, reason), counter): (&(Direction, Reason), &Counter)) -> Self {
        Self {
            direction: direction.name(),
            verdict: reason.verdict().name(),
            reason: reason.name(),
            packets: counter.packets,
            bytes: counter.bytes,
        }
    }
}
