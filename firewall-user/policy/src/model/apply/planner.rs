//! Compares a document with the model.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;

use super::{Compared, Line, Options, Others, Plan, Sign, Step};
use crate::model::document::{Broken, Error, Errors, Findings, Wanted, WantedRule};
use crate::model::{
    AclId, Change, End, GroupId, Limits, Model, PrefixListId, RuleId, SubnetId, VpcId,
};

mod acl;
mod groups;
mod lists;
mod prune;
mod rules;
mod vpcs;

/// Builds a plan, with the model as the steps so far leave it.
pub(super) struct Planner<'a> {
    after: Model,
    limits: &'a Limits,
    options: &'a Options,
    steps: Vec<Step>,
    /// The VPCs of this host by those of the document.
    vpcs: HashMap<VpcId, VpcId>,
    /// The VPCs that were created because the caller asked for it, not because the document describes them.
    made: Vec<VpcId>,
    /// Of `vpcs`, those that are not on this host: the default one takes their place.
    replaced: HashSet<VpcId>,
    /// The ids of this host by those of the document.
    groups: HashMap<GroupId, GroupId>,
    lists: HashMap<PrefixListId, PrefixListId>,
    /// The lists that were created here without the entries that they have elsewhere.
    without_entries: HashSet<PrefixListId>,
    /// Lists with more entries than before, with their places in the document.
    grown: Vec<(String, PrefixListId)>,
    /// The groups of this host that the document has, with their places in it.
    mentioned: HashMap<GroupId, String>,
    /// The VPCs of these groups, and those of the network ACLs.
    group_vpcs: BTreeSet<VpcId>,
    acl_vpcs: BTreeSet<VpcId>,
    /// The network ACLs of this host that the document has.
    acls: HashSet<AclId>,
    /// The subnets that the document gives a network ACL.
    associated: HashSet<SubnetId>,
    /// Every rule of this host, if the document has ids of rules.
    rule_ids: HashSet<RuleId>,
    /// Rules of the document whose peer is not on this host.
    foreign: usize,
    findings: Findings,
    broken: Broken,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        model: &Model,
        limits: &'a Limits,
        options: &'a Options,
        findings: Findings,
    ) -> Self {
        Self {
            after: model.clone(),
            limits,
            options,
            steps: Vec::new(),
            vpcs: HashMap::new(),
            made: Vec::new(),
            replaced: HashSet::new(),
            groups: HashMap::new(),
            lists: HashMap::new(),
            without_entries: HashSet::new(),
            grown: Vec::new(),
            mentioned: HashMap::new(),
            group_vpcs: BTreeSet::new(),
            acl_vpcs: BTreeSet::new(),
            acls: HashSet::new(),
            associated: HashSet::new(),
            rule_ids: HashSet::new(),
            foreign: 0,
            findings,
            broken: Broken::default(),
        }
    }

    /// All steps, in the order in which they can be made.
    pub(super) fn plan(mut self, mut wanted: Wanted) -> Result<Plan, Errors> {
        self.broken = mem::take(&mut wanted.broken);
        self.select(&mut wanted);
        if self.place_vpcs(&wanted) {
            self.lists(&wanted);
            self.subnets(&wanted.subnets);
            self.first_subnets();
            self.groups(&wanted.groups);
            self.acls(&wanted.acls);
        }
        self.finish(&wanted)
    }

    fn step(&mut self, change: Change, lines: Vec<Line>) {
        self.after.make(change.clone());
        self.steps.push(Step { change, lines });
    }

    /// Checks the limits of what grew, when all edits are known, and prunes.
    fn finish(mut self, wanted: &Wanted) -> Result<Plan, Errors> {
        let (groups, acls) = (&wanted.groups, &wanted.acls);
        let grown: BTreeSet<_> = self
            .steps
            .iter()
            .filter_map(|step| match &step.change {
                Change::AddRule { group, .. } => Some(group),
                _ => None,
            })
            .collect();
        for id in grown {
            if let Some(path) = self.mentioned.get(id)
                && let Ok(here) = self.after.group_by_id(id)
            {
                let specs = here.rules.iter().map(|rule| &rule.spec);
                let count = self.after.check_count(&here.name, specs, self.limits);
                self.findings.ok(count.map_err(Error::at(path)));
            }
        }
        for (path, list) in &self.grown {
            let count = self.after.check_referring_groups(list, self.limits);
            self.findings.ok(count.map_err(Error::at(path)));
        }
        let others = self.options.others;
        let kept = match others {
            Others::Go if groups.is_empty() && acls.is_empty() => {
                self.findings.error(Error::NothingStays);
                Vec::new()
            }
            // A document without groups says nothing about them.
            Others::Stay | Others::Go if groups.is_empty() => Vec::new(),
            Others::Stay => self.others(),
            Others::Go => {
                self.prune();
                Vec::new()
            }
        };
        let mut names: Vec<_> = kept.iter().map(|group| self.after.group_label(group)).collect();
        match others {
            // Neither does one without network ACLs.
            Others::Stay | Others::Go if acls.is_empty() => {}
            Others::Stay => {
                let others = self.other_acls().into_iter();
                names.extend(others.map(|acl| format!("network ACL {}", acl.name)));
            }
            Others::Go => self.prune_acls(),
        }
        let Findings { errors, warnings } = mem::take(&mut self.findings);
        if errors.is_empty() {
            let foreign = self.foreign;
            let compared = Compared {
                groups: groups.len(),
                rules: groups.iter().map(|group| group.rules.len()).sum(),
                prefix_lists: wanted.lists.len(),
                acls: acls.len(),
                vpcs: wanted.vpcs.len(),
                subnets: wanted.subnets.len(),
            };
            Ok(Plan { steps: self.steps, warnings, others: names, foreign, compared })
        } else {
            Err(errors)
        }
    }
}

/// In place of a place in the document.
const PRUNE: &str = "--prune";

fn tags_line(object: String, id: &str) -> Line {
    Line {
        sign: Sign::Change,
        object,
        id: Some(id.to_owned()),
        is_generated: false,
        text: "tags".to_owned(),
    }
}

fn with_description(text: String, description: &str) -> String {
    if description.is_empty() { text } else { format!("{text} ({description})") }
}

/// Whether two ends are the same, as documents have them.
fn is_same_end(one: Option<End>, other: Option<End>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_in_the_second_of(other),
        _ => false,
    }
}

fn with_end(text: String, end: Option<End>) -> String {
    end.map_or_else(|| text.clone(), |end| format!("{text} until {}", end.text()))
}

fn twice(path: &str, reason: String) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        reason,
        hint: "names are unique in a VPC, ignoring case: apply one of the two",
    }
}

fn repeated(path: &str, object: &str) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        reason: format!("{object} is in the document twice"),
        hint: "keep one of the two",
    }
}

fn of_other_vpc(path: &str, object: &str, here: &VpcId, wanted: &VpcId) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        reason: format!("{object} is in {here} on this host, not in {wanted}"),
        hint: "nothing moves to another VPC: delete it first, or apply the document as before",
    }
}

fn unknown_list(path: &str, list: &PrefixListId) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        reason: format!("prefix list {list} is neither on this host nor in the document"),
        hint: "add the document of aws ec2 describe-managed-prefix-lists, or the list to the \
               document's PrefixLists",
    }
}

fn unknown_group(rule: &WantedRule, name: &str) -> Error {
    Error::Foreign {
        path: rule.path.clone(),
        reason: format!("group {name:?} is neither on this host nor in the document"),
        hint: "add it to the document, or create it first",
    }
}
