//! `secgroup export`

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::Args;

use super::output;
use super::{Context, Exit};
use crate::clock::Clocks;
use crate::model::document::{self, Document};
use crate::model::{Group, Model, Peer};

/// Print groups and prefix lists as a document that apply reads.
///
/// The document has the form of `aws ec2 describe-security-groups`, with prefix lists beside the groups.
/// Named groups are printed with the groups and prefix lists that their rules have as peers.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  secgroup export web db > groups.json")]
pub(super) struct Command {
    /// Group by id or name; may be repeated [default: all groups and prefix lists]
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let model = context.control_reading()?.model()?;
        let model = model.without_ended(Clocks::now().moment.boottime);
        let document = if self.groups.is_empty() {
            combined(model.groups.values(), document::prefix_lists(model.prefix_lists.values()))
        } else {
            let mut named = Vec::new();
            for word in &self.groups {
                let group = model.group(word).with_context(|| format!("export group {word}"))?;
                named.push(group);
            }
            self_contained(&model, named)
        };
        output::json(&document)?;
        Ok(Exit::Done)
    }
}

fn combined<'a>(groups: impl IntoIterator<Item = &'a Group>, lists: Document) -> Document {
    Document { prefix_lists: lists.prefix_lists, ..document::groups(groups) }
}

/// The named groups, the groups and prefix lists that their rules have as peers, and so on: apply
/// refuses a document with an unknown peer.
fn self_contained<'a>(model: &'a Model, mut open: Vec<&'a Group>) -> Document {
    let (mut groups, mut lists) = (BTreeSet::new(), BTreeSet::new());
    while let Some(group) = open.pop() {
        if !groups.insert(&group.id) {
            continue;
        }
        for rule in &group.rules {
            match &rule.spec.peer {
                Peer::Group(id) => open.extend(model.groups.get(id)),
                Peer::PrefixList(id) => {
                    lists.insert(id);
                }
                Peer::Ipv4(_) | Peer::Ipv6(_) => {}
            }
        }
    }
    let lists = lists.into_iter().filter_map(|id| model.prefix_lists.get(id));
    combined(
        groups.into_iter().filter_map(|id| model.groups.get(id)),
        document::prefix_lists(lists),
    )
}
