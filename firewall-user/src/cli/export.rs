//! `secgroup export`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use clap::Args;

use super::acl::stored;
use super::output;
use super::{Context, Exit, group};
use crate::clock::Clocks;
use crate::model::document::{self, Document};
use crate::model::{Acl, Group, Identity, Model, Peer, Subnet, Vpc};

/// Print groups, prefix lists and network ACLs as a document that apply reads.
///
/// The document has the form of `aws ec2 describe-security-groups`, with prefix lists and network ACLs (in
/// the form of `aws ec2 describe-network-acls`) beside the groups. Named groups and network ACLs are printed
/// with the groups and prefix lists that their rules and entries have as peers. VPCs and subnets are in it
/// where there are others than those that every host has.
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
    /// Print the ids of all rules too, in SecurityGroupRules, which has only rules with tags otherwise
    #[arg(long)]
    rule_ids: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let identity = &context.config.ec2;
        let control = context.control_reading()?;
        let model = control.model()?.without_ended(Clocks::now().moment.boottime);
        let document = if self.groups.is_empty() && self.acls.is_empty() {
            let lists = document::prefix_lists(identity, model.prefix_lists.values());
            let acls = document::acls(identity, &model, stored(&control, &model));
            let groups = group::stored(&control, &model);
            let document = combined(identity, groups.iter().copied(), lists, acls);
            let (vpcs, subnets) = (model.vpcs.values().collect(), model.subnets.values().collect());
            self.with_rules_and_vpcs(identity, document, groups.iter().copied(), vpcs, subnets)
        } else {
            let (mut groups, mut acls) = (Vec::new(), Vec::new());
            for word in &self.groups {
                let group = model.group(word).with_context(|| format!("export group {word}"))?;
                groups.push(group);
            }
            for word in &self.acls {
                acls.push(model.acl(word).with_context(|| format!("export network ACL {word}"))?);
            }
            let groups = with_peers(&model, groups);
            let document = self_contained(identity, &model, &groups, &acls);
            let of_groups = groups.iter().map(|group| &group.vpc);
            let used: BTreeSet<_> = of_groups.chain(acls.iter().map(|acl| &acl.vpc)).collect();
            let vpcs = model.vpcs.values().filter(|vpc| used.contains(&vpc.id)).collect();
            let subnets = model.subnets.values().filter(|one| used.contains(&one.vpc)).collect();
            let document =
                self.with_rules_and_vpcs(identity, document, groups.iter().copied(), vpcs, subnets);
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

    /// Adds the rules whose ids or tags are to be kept, and the VPCs and subnets, unless every host has the same.
    fn with_rules_and_vpcs<'a>(
        &self,
        identity: &Identity,
        mut document: Document,
        groups: impl Iterator<Item = &'a Group>,
        vpcs: Vec<&Vpc>,
        subnets: Vec<&Subnet>,
    ) -> Document {
        let mut rules: Vec<_> = groups
            .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
            .filter(|(_, rule)| self.rule_ids || !rule.tags.is_empty())
            .collect();
        rules.sort_by(|(one, a), (two, b)| (&one.id, &a.spec).cmp(&(&two.id, &b.spec)));
        if !rules.is_empty() {
            document.security_group_rules = document::rules(identity, rules).security_group_rules;
        }
        let (default, default_subnet) = (Vpc::new_default(), Subnet::new_default());
        if vpcs.iter().any(|vpc| **vpc != default)
            || subnets.iter().any(|subnet| **subnet != default_subnet)
        {
            let described = document::vpcs(identity, vpcs, subnets);
            (document.vpcs, document.subnets) = (described.vpcs, described.subnets);
        }
        document
    }
}

fn combined<'a>(
    identity: &Identity,
    groups: impl IntoIterator<Item = &'a Group>,
    lists: Document,
    acls: Document,
) -> Document {
    Document {
        prefix_lists: lists.prefix_lists,
        network_acls: acls.network_acls,
        ..document::groups(identity, groups)
    }
}

/// Groups, those that their rules have as peers, and so on, by id: elsewhere a rule with an unknown peer matches
/// nothing.
fn with_peers<'a>(model: &'a Model, mut open: Vec<&'a Group>) -> Vec<&'a Group> {
    let mut groups = BTreeMap::new();
    while let Some(group) = open.pop() {
        if groups.insert(&group.id, group).is_some() {
            continue;
        }
        for rule in &group.rules {
            if let Peer::Group(id) = &rule.spec.peer {
                open.extend(model.group_by_id(id));
            }
        }
    }
    groups.into_values().collect()
}

/// Groups and network ACLs, with the prefix lists that their rules and entries have as peers: apply refuses a
/// document with an unknown one.
fn self_contained(
    identity: &Identity,
    model: &Model,
    groups: &[&Group],
    acls: &[&Acl],
) -> Document {
    let mut lists = BTreeSet::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        if let Peer::PrefixList(id) = &rule.spec.peer {
            lists.insert(id);
        }
    }
    for entry in acls.iter().flat_map(|acl| acl.entries.values()) {
        if let Peer::PrefixList(id) = &entry.peer {
            lists.insert(id);
        }
    }
    let acls: BTreeMap<_, _> = acls.iter().map(|acl| (&acl.id, *acl)).collect();
    let lists = lists.into_iter().filter_map(|id| model.prefix_lists.get(id));
    combined(
        identity,
        groups.iter().copied(),
        document::prefix_lists(identity, lists),
        document::acls(identity, model, acls.into_values()),
    )
}
