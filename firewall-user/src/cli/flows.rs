//! `secgroup flows`

use std::cmp::Reverse;
use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};

use super::output::{self, Format, Output};
use super::{Context, Exit};
use crate::control::Control;
use crate::model::Model;
use crate::observe::flows::document::{FlowCount, FlowList};
use crate::observe::flows::totals::{By, totals};
use crate::observe::flows::untracked::{Untracked, untracked};
use crate::observe::flows::{LiveFlow, Poller, live_flows, select};

mod filter;
mod live;
pub(super) mod print;

use filter::{Chosen, Filter};
use live::{TopOptions, Watch};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  secgroup flows list --port https --sort bytes --limit 10
  secgroup flows watch --group web
  secgroup flows count --by address --protocol udp
  secgroup flows top --interval 5 --repeat
  secgroup flows flush --address 203.0.113.0/24

Exit code 3: nothing is attached, or the interface, rule or group does not exist.")]
pub(super) enum Command {
    /// List the live flows, with the rule that allowed each
    List(List),
    /// Print flows that begin and end, until interrupted
    #[command(after_help = "\
A flow that begins and ends between two readings, and is not kept as closed, is not seen.

Examples:
  secgroup flows watch --port 443
  secgroup flows watch --interval 200ms --output json")]
    Watch(Watch),
    /// Count the live flows, of all or by group, rule, state, interface or address
    Count(Count),
    /// Show the flows with the highest rates over a time
    #[command(after_help = "\
Bytes are those of whole frames. Without --repeat it measures once.

Examples:
  secgroup flows top --interval 2 --limit 20
  secgroup flows top --by group --repeat")]
    Top(TopOptions),
    /// Remove flows, all of them without a filter; their next packet needs a rule
    Flush {
        #[command(flatten)]
        filter: Filter,
    },
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Sort by this, largest first [default: by interface, protocol and addresses]
    #[arg(long, value_enum)]
    sort: Option<Sort>,
    /// Number of flows at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Args)]
pub(super) struct Count {
    /// Count the flows of each
    #[arg(long, value_enum)]
    by: Option<By>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    filter: Filter,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Bytes of both directions
    Bytes,
    /// Packets of both directions
    Packets,
    /// Time since the first packet
    Age,
    /// Time since the last packet
    Idle,
    /// Bytes in one second, which is waited for
    Rate,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::List(list) => list.run(context).context("flows list")?,
            Self::Count(count) => count.run(context).context("flows count")?,
            Self::Flush { filter } => flush(context, &filter)?,
            Self::Watch(watch) => return watch.run(context),
            Self::Top(top) => return top.run(context),
        }
        Ok(Exit::Done)
    }
}

/// The column of the values of `--by`.
const fn header(by: Option<By>) -> &'static str {
    match by {
        Some(By::Group) => "GROUP",
        Some(By::Rule) => "RULE",
        Some(By::State) => "STATE",
        Some(By::Interface) => "INTERFACE",
        Some(By::Address) | None => "ADDRESS",
    }
}

/// The flows that a filter selects; if there are none, why there may be none of the port that it names.
fn chosen(
    control: &Control,
    model: &Model,
    chosen: &Chosen,
) -> Result<(Vec<LiveFlow>, Vec<Untracked>)> {
    let flows = live_flows(control, model, |flow| chosen.has(flow))?;
    let reasons =
        if flows.is_empty() { untracked(control, model, &chosen.query)? } else { Vec::new() };
    Ok((flows, reasons))
}

/// Says on standard error why no flow was found.
fn explain(reasons: &[Untracked]) {
    reasons.iter().for_each(|reason| output::note(&reason.text()));
    if !reasons.is_empty() {
        output::note(
            "`secgroup rule list --hits` counts untracked packets by rule; `secgroup attach IFACE --tracking \
             always` makes flows of them",
        );
    }
}

impl List {
    fn run(&self, context: &Context) -> Result<()> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let filter = self.filter.check(&control, &model)?;
        let (mut flows, reasons) = chosen(&control, &model, &filter)?;
        let total = |both: [u64; 2]| Reverse(both[0].saturating_add(both[1]));
        match self.sort {
            None => {}
            Some(Sort::Bytes) => flows.sort_by_key(|flow| total(flow.entry.flow.bytes)),
            Some(Sort::Packets) => flows.sort_by_key(|flow| total(flow.entry.flow.packets)),
            Some(Sort::Age) => flows.sort_by_key(|flow| Reverse(flow.age)),
            Some(Sort::Idle) => flows.sort_by_key(|flow| Reverse(flow.idle)),
            Some(Sort::Rate) => flows = by_rate(&control, &model, &filter)?,
        }
        let count = flows.len();
        flows.truncate(self.limit.unwrap_or(usize::MAX));
        match self.output.output {
            Format::Json => return output::value(&FlowList::new(&flows, count, reasons)),
            Format::Table => print::list(&flows)?,
        }
        if flows.len() < count {
            output::note(&format!("{} of {count} flows", flows.len()));
        }
        explain(&reasons);
        Ok(())
    }
}

/// The flows by what they count in a second.
fn by_rate(control: &Control, model: &Model, chosen: &Chosen) -> Result<Vec<LiveFlow>> {
    let mut poller = Poller::default();
    poller.poll_attached(control, model)?;
    thread::sleep(Duration::from_secs(1));
    let poll = poller.poll_attached(control, model)?;
    let bytes: HashMap<_, _> =
        poll.changes.iter().map(|one| (one.flow.entry.id(), one.all_bytes())).collect();
    let mut flows = live_flows(control, model, |flow| chosen.has(flow))?;
    flows.sort_by_key(|flow| Reverse(bytes.get(&flow.entry.id()).copied().unwrap_or_default()));
    Ok(flows)
}

impl Count {
    fn run(&self, context: &Context) -> Result<()> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let filter = self.filter.check(&control, &model)?;
        let (flows, reasons) = chosen(&control, &model, &filter)?;
        let by = self.by.map_or_else(Vec::new, |by| totals(by, &flows));
        match (self.output.output, self.by) {
            (Format::Json, _) => {
                return output::value(&FlowCount::new(flows.len(), by, reasons));
            }
            (Format::Table, None) => output::lines([flows.len()])?,
            (Format::Table, by_what) => print::totals(header(by_what), &by)?,
        }
        explain(&reasons);
        Ok(())
    }
}

fn flush(context: &Context, filter: &Filter) -> Result<()> {
    let flush = || -> Result<u64> {
        let mut control = context.control_unsettled()?;
        let model = control.model()?;
        let chosen = filter.check(&control, &model)?;
        control.flush(|store, mut entries| {
            entries.retain(|entry| chosen.has_tier(entry.tier()));
            select(store, &model, entries, &chosen.query)
        })
    };
    let removed = flush().context("flows flush")?;
    output::lines([format!("{} removed", output::many(removed, "flow"))])
}
