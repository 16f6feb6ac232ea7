//! The edits that make the groups, prefix lists and network ACLs of this host match a document.
//!
//! Items are matched by id, then by name: a group that was recreated in AWS has another id and is the
//! same group in the document. A rule that is in both keeps its id and its number, and with them its
//! counters and its flows.

use std::fmt;

use firewall_ebpf::abi::policy::MAX_RULE;

use super::document::{Document, Errors, Findings, Warning};
use super::{Change, Limits, Model, VpcId};

mod planner;
#[cfg(test)]
mod tests;

/// The edits that a document needs, in the order in which they can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each edit, with its lines of the diff.
    pub steps: Vec<Step>,
    /// What is accepted, and perhaps not meant.
    pub warnings: Vec<Warning>,
    /// The names of the groups and network ACLs of this host that the document does not have and that stay.
    pub others: Vec<String>,
    /// How many rules of the document have a peer that is not on this host: they match nothing.
    pub foreign: usize,
    /// How many items of the document were compared.
    pub compared: Compared,
}

/// Numbers of items of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the fields are the documentation")]
pub struct Compared {
    pub groups: usize,
    pub rules: usize,
    pub prefix_lists: usize,
    pub acls: usize,
    pub vpcs: usize,
    pub subnets: usize,
}

/// What of a document is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What happens to what it does not have.
    pub others: Others,
    /// The VPCs whose groups, network ACLs and subnets are applied; empty: all of them.
    pub vpcs: Vec<VpcId>,
    /// Whether VPCs that this host does not have are created, with their ids.
    pub create_vpcs: bool,
}

impl From<Others> for Options {
    fn from(others: Others) -> Self {
        Self { others, ..Self::default() }
    }
}

/// What happens to the groups and network ACLs of this host that a document does not have. A document
/// without groups, or without network ACLs, says nothing about these, nor about those of other VPCs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// They stay as they are.
    #[default]
    Stay,
    /// They are removed, except [`DEFAULT_GROUP`] and the default network ACL.
    Go,
}

/// The group that every VPC has, and that EC2 does not delete.
pub const DEFAULT_GROUP: &str = "default";

/// An edit, and its lines of the diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The edit.
    pub change: Change,
    /// At least one.
    pub lines: Vec<Line>,
}

/// A line of a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether the item is added, removed or changed.
    pub sign: Sign,
    /// The name of a group; or `group`, `prefix-list` or `network-acl`, and its name.
    pub object: String,
    /// The id of the item.
    pub id: Option<String>,
    /// Whether the id was generated for this plan: another plan would have another.
    pub is_generated: bool,
    /// The item.
    pub text: String,
}

/// What happens to the item of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// `+`
    Add,
    /// `-`
    Remove,
    /// `~`
    Change,
}

impl Plan {
    /// The edits that `document` needs in `model`, which keeps its other groups.
    ///
    /// # Errors
    /// See [`Self::with`].
    pub fn new(model: &Model, document: &Document, limits: &Limits) -> Result<Self, Errors> {
        Self::with(model, document, limits, &Options::default())
    }

    /// The edits that `document` needs in `model`.
    ///
    /// # Errors
    /// The document has items that are refused, or a group that would go is in use: everything that is
    /// wrong, except what only follows from another error. None of the edits may be made then.
    pub fn with(
        model: &Model,
        document: &Document,
        limits: &Limits,
        options: &Options,
    ) -> Result<Self, Errors> {
        let mut findings = Findings::default();
        let wanted = document.wanted(&mut findings);
        planner::Planner::new(model, limits, options, findings).plan(wanted)
    }

    /// Whether the model matches the document already.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The model that the edits would make of the one that they were planned for. New rules and entries of network
    /// ACLs have numbers that none of the store has.
    #[must_use]
    pub fn result(&self, model: &Model) -> Model {
        let mut model = model.clone();
        // The highest one is that of the management networks.
        let mut last = MAX_RULE;
        let mut next = || {
            last -= 1;
            last
        };
        for step in &self.steps {
            let mut change = step.change.clone();
            match &mut change {
                Change::AddRule { rule, .. } => rule.number = next(),
                Change::PutAclEntry { entry, .. } => entry.number = next(),
                Change::CreateAcl(acl) => {
                    acl.entries.values_mut().for_each(|entry| entry.number = next());
                }
                _ => {}
            }
            model.make(change);
        }
        model
    }

    /// The diff.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.steps.iter().flat_map(|step| &step.lines)
    }
}

impl Line {
    /// The line before the edits are made: without the ids generated for the plan.
    #[must_use]
    pub fn preview(&self) -> Self {
        let mut line = self.clone();
        if self.is_generated {
            line.id = Some("(new)".to_owned());
        }
        line
    }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.sign {
            Sign::Add => '+',
            Sign::Remove => '-',
            Sign::Change => '~',
        };
        write!(out, "{sign} {}", self.object)?;
        if let Some(id) = &self.id {
            write!(out, " {id}")?;
        }
        if !self.text.is_empty() {
            write!(out, " {}", self.text)?;
        }
        Ok(())
    }
}
