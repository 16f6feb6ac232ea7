//! What must change so that the groups and prefix lists of a document are as the document says.
//!
//! Things are matched by id, then by name: a group that was made anew in AWS has another id and
//! is the same group to everyone who reads the document. A rule that stays keeps its id and its
//! number, and with them its counters and its flows.

use std::fmt;

use super::document::{Document, Error, Wanted};
use super::{Change, Limits, Model};

mod planner;
#[cfg(test)]
mod tests;

/// The edits that a document comes to, in the order in which they can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each edit with its lines.
    pub steps: Vec<Step>,
}

/// An edit, and the lines that tell a person about it.
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
    /// Whether it comes, goes or changes.
    pub sign: Sign,
    /// What the line is about: the name of a group, or `prefix-list` and its name.
    pub object: String,
    /// The id of what comes, goes or changes.
    pub id: Option<String>,
    /// Whether the id was drawn for this plan, so that another plan would have another.
    pub drawn: bool,
    /// What comes, goes or changes.
    pub text: String,
}

/// What happens to the subject of a line.
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
    /// What `document` asks of `model`.
    ///
    /// # Errors
    /// When the document asks for something that may not be; nothing of it should be done then.
    pub fn new(model: &Model, document: &Document, limits: &Limits) -> Result<Self, Error> {
        let Wanted { lists, groups } = document.wanted()?;
        let mut planner = planner::Planner::new(model, limits);
        planner.lists(&lists)?;
        planner.groups(&groups)?;
        planner.finish(&groups)
    }

    /// Whether the document says what is so already.
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
    /// The line as it reads before the plan is made true: without the ids drawn for it.
    #[must_use]
    pub fn foreseen(&self) -> Self {
        let mut line = self.clone();
        if self.drawn {
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
