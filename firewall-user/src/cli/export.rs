//! `secgroup export`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use clap::Args;

use super::acl::stored;
use super::output;
use super::{Context, Exit};
use crate::clock::Clocks;
use crate::model::document::{self, Document};
use crate::model::{Acl, Group, Model, Peer};

/// Print groups, prefix lists and network ACLs as a document that apply reads.
///
/// The document has the form of `aws ec2 describe-security-groups`, with prefix lists and network ACLs (in
/// the form of `aws ec2 describe-network-acls`) beside the groups. Named groups and network ACLs are printed
/// with the groups and prefix lists that their rules and entries have as peers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup export web db > groups.json
  secgroup export --acl guests > acl.json")]
pub(super) struct Command {
    /// Group by id or name; may be repeated [default: all groups, prefix lists and network ACLs]
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// Network ACL by id or name; may be repeated
    #[arg(long = "acl", value_name = "ACL")]
    acls: Vec<String>,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let control = context.control_reading()?;
        let model = control.model()?.without_ended(Clocks::now().moment.boottime);
        let document = if self.groups.is_empty() && self.acls.is_empty() {
            let lists = document::prefix_lists(model.prefix_lists.values());
            combined(model.groups_by_id(), lists, document::acls(&model, stored(&control, &model)))
        } else {
            let (mut groups, mut acls) = (Vec::new(), Vec::new());
            for word in &self.groups {
                let group = model.group(word).with_context(|| format!("export group {word}"))?;
                groups.push(group);
            }
            for word in &self.acls {
                acls.push(model.acl(word).with_context(|| format!("export network ACL {word}"))?);
            }
            let document = self_contained(&model, groups, &acls);
            // Without groups, or network ACLs, a document says nothing about them.
            Document {
                security_groups: document.security_groups.filter(|some| !some.is_empty()),
                network_acls: document.network_acls.filter(|some| !some.is_empty()),
                ..document
            }
        };
        output::json(&document)?;
        Ok(Exit::Done)
    }
}

fn combined<'a>(
    groups: impl IntoIterator<Item = &'a Group>,
    lists: Document,
    acls: Document,
) -> Document {
    Document {
        prefix_lists: lists.prefix_lists,
        network_acls: acls.network_acls,
        ..document::groups(groups)
    }
}

/// The named groups and network ACLs, the groups and prefix lists that their rules and entries have as
/// peers, and so on: apply refuses a document with an unknown peer.
fn self_contained<'a>(model: &'a Model, mut open: Vec<&'a Group>, acls: &[&'a Acl]) -> Document {
    let (mut groups, mut lists) = (BTreeSet::new(), BTreeSet::new());
    for entry in acls.iter().flat_map(|acl| acl.entries.values()) {
        if let Peer::PrefixList(id) = &entry.peer {
            lists.insert(id);
        }
    }
    let acls: BTreeMap<_, _> = acls.iter().map(|acl| (&acl.id, *acl)).collect();
    while let Some(group) = open.pop() {
        if !groups.insert(&group.id) {
            continue;
        }
        for rule in &group.rules {
            match &rule.spec.peer {
                Peer::Group(id) => open.extend(model.group_by_id(id)),
                Peer::PrefixList(id) => {
                    lists.insert(id);
                }
                Peer::Ipv4(_) | Peer::Ipv6(_) | Peer::Foreign(_) => {}
            }
        }
    }
    let lists = lists.into_iter().filter_map(|id| model.prefix_lists.get(id));
    combined(
        groups.into_iter().filter_map(|id| model.group_by_id(id).ok()),
        document::prefix_lists(lists),
        document::acls(model, acls.into_values()),
    )
}
