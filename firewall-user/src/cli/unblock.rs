//! `secgroup unblock`

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use clap::Args;

use super::block::targets::{Place, Targets};
use super::failure::UsageError;
use super::output;
use super::{Context, Exit};
use crate::control::Terms;
use crate::model::{Block, Error, Model, Peer};

/// Remove blocks, by the words that they were made with.
///
/// Without --interface, a target's blocks on every interface are removed. A network that is blocked by a
/// larger one, or as part of a prefix list, stays blocked, and is refused here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup unblock 203.0.113.7
  secgroup unblock --prefix-list drop-list
  secgroup unblock --all")]
pub(super) struct Command {
    #[command(flatten)]
    targets: Targets,
    /// Remove every block; with --interface, every one of that interface
    #[arg(long)]
    all: bool,
    /// Succeed if a target is not blocked
    #[arg(long)]
    if_exists: bool,
}

/// Blocks that are named one by one in what is printed; of more there is a number.
const NAMED: usize = 20;

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let text = self.targets.text("unblock");
        self.unblock(context).context(text)?;
        Ok(Exit::Done)
    }

    fn unblock(self, context: &Context) -> Result<()> {
        let Self { targets, all, if_exists } = self;
        if all != targets.is_empty() {
            let message = if all {
                "--all leaves no target to be named"
            } else {
                "there is nothing to unblock"
            };
            return Err(UsageError {
                message: message.to_owned(),
                hint: "name what is blocked, or --all; `secgroup block list` shows it",
            }
            .into());
        }
        let given = targets.parse()?;
        let mut control = context.control()?;
        let pins = control.pins().clone();
        let terms = Terms { what: targets.text("unblock"), ..Terms::default() };
        let removed = control.change(&terms, |change| {
            let model = change.model();
            let places = targets.places(&pins, model)?;
            let is_there = |block: &Block| {
                !targets.has_interfaces() || places.contains(&Place(block.interface.clone()))
            };
            let mut found = Vec::new();
            if all {
                found.extend(model.blocks.values().filter(|block| is_there(block)));
            }
            let mut known: HashMap<&Peer, Vec<&Block>> = HashMap::new();
            for block in model.blocks.values().filter(|block| is_there(block)) {
                known.entry(&block.target).or_default().push(block);
            }
            for target in given.peers(model)? {
                match known.get(&target) {
                    Some(blocks) => found.extend(blocks),
                    None if if_exists => {}
                    None => return Err(missing(model, &target, &places).into()),
                }
            }
            let found: Vec<_> =
                found.into_iter().map(|block| (block.number, model.block_text(block))).collect();
            for (number, _) in &found {
                change.remove_block(*number)?;
            }
            Ok(found)
        })?;
        if removed.len() > NAMED {
            return output::lines([format!("{} unblocked", removed.len())]);
        }
        output::lines(removed.iter().map(|(_, text)| format!("{text} unblocked")))
    }
}

/// That there is no block of this target at these places, and what blocks it there nevertheless.
fn missing(model: &Model, target: &Peer, places: &[Place]) -> Error {
    // Where every interface is meant, blocks of single ones concern it too.
    let is_there = |block: &&Block| {
        let at = |place: &Place| place.0.is_none() || place.0 == block.interface;
        block.interface.is_none() || places.iter().any(at)
    };
    let contains = |block: &&Block| match (&block.target, target) {
        (Peer::Ipv4(outer), Peer::Ipv4(inner)) => outer.contains(inner),
        (Peer::Ipv6(outer), Peer::Ipv6(inner)) => outer.contains(inner),
        (Peer::PrefixList(id), Peer::Ipv4(inner)) => covers(model, id, inner.addr().into()),
        (Peer::PrefixList(id), Peer::Ipv6(inner)) => covers(model, id, inner.addr().into()),
        _ => false,
    };
    let within =
        model.blocks.values().filter(is_there).find(contains).map(|block| model.block_text(block));
    Error::BlockNotFound { target: model.peer_text(target), within }
}

fn covers(model: &Model, list: &crate::model::PrefixListId, address: std::net::IpAddr) -> bool {
    model.prefix_lists.get(list).is_some_and(|list| list.entries.networks().cover(address))
}
