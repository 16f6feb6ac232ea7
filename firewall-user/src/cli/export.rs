//! `secgroup export`

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::Args;

use super::output;
use super::{Context, Exit};
use crate::model::document::{self, Document};
use crate::model::{Group, Model, Peer};

/// Print groups, with what their rules name, as a document that apply reads.
///
/// It is what `aws ec2 describe-security-groups` prints, with the prefix lists beside the groups.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  secgroup export web db > groups.json")]
pub(super) struct Command {
    /// Ids or names; everything without them
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let model = context.control()?.model()?;
        let document = if self.groups.is_empty() {
            together(model.groups.values(), document::prefix_lists(model.prefix_lists.values()))
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

fn together<'a>(groups: impl IntoIterator<Item = &'a Group>, lists: Document) -> Document {
    Document { prefix_lists: lists.prefix_lists, ..document::groups(groups) }
}

/// The named groups, and all that their rules name, and theirs: otherwise the document could not
/// be applied where those are not.
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
    together(
        groups.into_iter().filter_map(|id| model.groups.get(id)),
        document::prefix_lists(lists),
    )
}
