//! `secgroup block`

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use ipnet::{Ipv4Net, Ipv6Net};

use super::ends::EndOptions;
use super::failure::UsageError;
use super::output::{self, Output};
use super::safety::Safety;
use super::{Context, Exit};
use crate::dataplane::flows::list::FlowEntry;
use crate::model::{Block, End, InterfaceId, Model, Networks, NewBlock, Peer, block_reason};
use crate::store::Blocked;

mod list;
pub(super) mod risks;
pub(super) mod targets;

pub(super) use list::BlockList;
use targets::{Place, Targets};

/// Block addresses, networks or prefix lists: their packets are dropped, in both directions, before
/// anything else is decided.
///
/// The block is of every interface, attached now or later, or of those that --interface names. A target
/// that is blocked already gets the new end and reason; its counter goes on.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  secgroup block 203.0.113.7
  secgroup block 203.0.113.0/24 2001:db8::/32 --for 2h --reason \"port scan\"
  secgroup block --prefix-list drop-list
  secgroup block - --for 1d < addresses
  secgroup block list"
)]
pub(super) struct Command {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    block: BlockArgs,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// List what is blocked, with the packets that were dropped
    List {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct BlockArgs {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    ends: EndOptions,
    /// Why it is blocked, for the list [default: that of the block that there is]
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Remove the flows of the blocked addresses: when the block ends, a connection goes on only if a rule
    /// allows it then
    #[arg(long)]
    flush: bool,
    #[command(flatten)]
    safety: Safety,
}

/// Targets that are named one by one in what is printed; of more there are numbers.
const NAMED: usize = 20;

impl Command {
    /// See [`super::Command::needs_configuration`].
    pub(super) const fn needs_configuration(&self) -> bool {
        self.command.is_none()
    }

    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self.command {
            Some(Sub::List { output }) => list::run(context, output.output).context("list blocks"),
            None => {
                let text = self.block.targets.text("block");
                self.block.run(context).context(text)
            }
        }
    }
}

/// What became of one target.
struct Outcome {
    blocked: Blocked,
    block: Block,
    text: String,
    /// Whether a block that was there has the end that it had.
    keeps_end: bool,
}

impl BlockArgs {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { targets, ends, reason, flush, safety } = self;
        let given = targets.parse()?;
        if given.is_empty() {
            if targets.reads_input() {
                output::note("standard input has no address, so nothing is blocked");
                return Ok(Exit::Done);
            }
            return Err(UsageError {
                message: "there is nothing to block".to_owned(),
                hint: "name addresses, networks or, with --prefix-list, prefix lists; `secgroup block list` \
                       shows what is blocked",
            }
            .into());
        }
        let reason = reason.as_deref().map(block_reason).transpose()?;
        let mut control = context.control()?;
        let pins = control.pins().clone();
        let terms = safety.terms(&targets.text("block"));
        let mut notes = Vec::new();
        let outcomes = control.change(&terms, |change| {
            let model = change.model();
            let peers = given.peers(model)?;
            let places = targets.places(&pins, model)?;
            if !terms.force {
                risks::check(model, &peers)?;
            }
            notes = risks::notes(&pins, model, &peers)?;
            let end = ends.end()?;
            let mut new = Vec::new();
            for target in &peers {
                for Place(interface) in &places {
                    let (target, interface) = (target.clone(), interface.clone());
                    let reason = reason.clone();
                    new.push(NewBlock { target, interface, reason, end, created: now() });
                }
            }
            let ends: Vec<_> =
                change.model().blocks.values().map(|it| (it.number, it.end)).collect();
            let blocked = change.add_blocks(new)?;
            Ok(outcomes(change.model(), &blocked, &ends.into_iter().collect()))
        })?;
        output::lines(report(&outcomes))?;
        let model = control.model()?;
        if model.interfaces.is_empty() {
            notes.push(
                "no interface is attached, so nothing is dropped yet: it takes effect with `secgroup attach`"
                    .to_owned(),
            );
        }
        notes.iter().for_each(|note| output::note(note));
        if flush && !model.interfaces.is_empty() {
            let blocks = Blocks::new(&model, &outcomes);
            let removed = control.flush(|_, mut flows| {
                flows.retain(|flow| blocks.cover(flow));
                Ok(flows)
            });
            output::lines([format!(
                "{} removed",
                output::many(removed.context("flush flows")?, "flow")
            )])?;
        }
        safety.remind(&control)?;
        Ok(Exit::Done)
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// `ends`: those of the blocks that there were, by number.
fn outcomes(model: &Model, blocked: &[Blocked], ends: &HashMap<u32, Option<End>>) -> Vec<Outcome> {
    let outcome = |blocked: &Blocked| {
        let (Blocked::New(number) | Blocked::Changed(number) | Blocked::Same(number)) = blocked;
        let block = model.blocks.get(number)?.clone();
        let keeps_end = ends.get(number) == Some(&block.end);
        Some(Outcome { blocked: *blocked, text: model.block_text(&block), block, keeps_end })
    };
    blocked.iter().filter_map(outcome).collect()
}

fn report(outcomes: &[Outcome]) -> Vec<String> {
    if outcomes.len() > NAMED {
        let count = |is: fn(Blocked) -> bool| outcomes.iter().filter(|it| is(it.blocked)).count();
        let new = count(|it| matches!(it, Blocked::New(_)));
        let changed = count(|it| matches!(it, Blocked::Changed(_)));
        let same = count(|it| matches!(it, Blocked::Same(_)));
        return vec![format!("{new} blocked, {changed} changed, {same} unchanged")];
    }
    let line = |Outcome { blocked, block, text, keeps_end }: &Outcome| {
        let until = block.end.map(|end| format!(" until {}", end.text())).unwrap_or_default();
        match blocked {
            Blocked::New(_) => format!("{text} blocked{until}"),
            Blocked::Changed(_) if *keeps_end => {
                format!("{text} is blocked already{until}, now with this reason")
            }
            Blocked::Changed(_) if until.is_empty() => {
                format!("{text} was blocked already, now without an end")
            }
            Blocked::Changed(_) => format!("{text} was blocked already, now{until}"),
            Blocked::Same(_) => format!("{text} is blocked already{until}"),
        }
    };
    outcomes.iter().map(line).collect()
}

/// The blocked addresses, of every interface or of one.
struct Blocks(Vec<(Option<u16>, Networks)>);

impl Blocks {
    fn new(model: &Model, outcomes: &[Outcome]) -> Self {
        let slot = |id: &InterfaceId| model.interfaces.values().find(|one| one.id == *id);
        let mut single: BTreeMap<Option<u16>, (Vec<Ipv4Net>, Vec<Ipv6Net>)> = BTreeMap::new();
        let mut all = Vec::new();
        for Outcome { block, .. } in outcomes {
            let slot = match &block.interface {
                None => None,
                // It was detached meanwhile, with its flows.
                Some(id) => match slot(id) {
                    Some(interface) => Some(interface.slot),
                    None => continue,
                },
            };
            let (v4, v6) = single.entry(slot).or_default();
            match &block.target {
                Peer::Ipv4(network) => v4.push(*network),
                Peer::Ipv6(network) => v6.push(*network),
                Peer::PrefixList(id) => {
                    let list = model.prefix_lists.get(id);
                    all.extend(list.map(|list| (slot, list.entries.networks().clone())));
                }
                Peer::Group(_) | Peer::Foreign(_) => {}
            }
        }
        all.extend(single.into_iter().map(|(slot, (v4, v6))| (slot, Networks::new(v4, v6))));
        Self(all)
    }

    /// Whether a flow is one of a blocked address.
    fn cover(&self, flow: &FlowEntry) -> bool {
        let is_there = |slot: &Option<u16>| slot.is_none_or(|slot| slot == flow.slot);
        self.0.iter().any(|(slot, networks)| is_there(slot) && networks.cover(flow.outside))
    }
}
