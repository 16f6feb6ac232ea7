//! The edits that make the groups and prefix lists of this host match a document.
//!
//! Items are matched by id, then by name: a group that was recreated in AWS has another id and is the
//! same group in the document. A rule that is in both keeps its id and its number, and with them its
//! counters and its flows.

use std::fmt;

use super::document::{Document, Error, Wanted};
use super::{Change, Limits, Model};

mod planner;
#[cfg(test)]
mod tests;

/// The edits that a document needs, in the order in which they can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each edit, with its lines of the diff.
    pub steps: Vec<Step>,
}

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
    /// The name of a group, or `prefix-list` and its name.
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
    /// The edits that `document` needs in `model`.
    ///
    /// # Errors
    /// The document has an item that is refused; none of the edits may be made then.
    pub fn new(model: &Model, document: &Document, limits: &Limits) -> Result<Self, Error> {
        let Wanted { lists, groups } = document.wanted()?;
        let mut planner = planner::Planner::new(model, limits);
        planner.lists(&lists)?;
        planner.groups(&groups)?;
        planner.finish(&groups)
    }

    /// Whether the model matches the document already.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
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
