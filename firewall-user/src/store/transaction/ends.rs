//! What ends by itself: its removal, and another end for a rule.

use std::sync::Arc;

use super::Transaction;
use crate::model::{Change, End, Ended, EndedKind, GroupId, Model, Moment, RuleId};
use crate::store::ends::{Ends, Written};
use crate::store::{EndedCounts, Error, write};

/// What was done before the edits.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// What had ended and was removed.
    ended: Vec<Ended>,
    /// The model after that.
    model: Option<Arc<Model>>,
    /// Ends were stored by other clocks when the transaction began.
    pub(super) moved: bool,
    /// They are stored by those of the present boot now.
    pub(super) stored: bool,
    /// Every end is stored for this boot.
    pub(super) is_done: bool,
    /// There was an edit besides.
    pub(super) edited: bool,
}

impl Settled {
    pub(super) fn new(moved: bool) -> Self {
        Self { moved, ..Self::default() }
    }
}

impl Transaction<'_> {
    /// The clocks when the transaction began.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.clocks.moment
    }

    /// Removes what has ended by itself, and counts it; stores the other ends by the clocks of this boot, where
    /// the wall clock was set or the machine was restarted. Call it before the first edit.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn remove_ended(&mut self) -> Result<(), Error> {
        let failed = |error| Error::sqlite(self.path, error);
        let stored = Ends::new(&self.sql, &self.clocks).and_then(|ends| ends.store(&self.sql));
        let Written { ends, clocks } = stored.map_err(failed)?;
        self.recorded |= ends || clocks;
        self.ends.stored = ends;
        self.ends.is_done = true;
        if !self.has_ends {
            return Ok(());
        }
        let ended = self.model.ended(self.clocks.moment.boottime);
        if ended.is_empty() {
            return Ok(());
        }
        let edited = self.ends.edited;
        for one in &ended {
            self.write(one.change.clone())?;
        }
        self.ends.edited = edited;
        let count = |kind| ended.iter().filter(|one| one.kind == kind).count() as u64;
        let counts = EndedCounts {
            rules: count(EndedKind::Rule),
            acl_entries: count(EndedKind::AclEntry),
            blocks: count(EndedKind::Block),
        };
        write::count_ended(&self.sql, &counts).map_err(|error| Error::sqlite(self.path, error))?;
        self.ends.ended.extend(ended);
        self.ends.model = Some(self.model.clone());
        Ok(())
    }

    /// What had ended and was removed before the edits.
    #[must_use]
    pub fn ended(&self) -> &[Ended] {
        &self.ends.ended
    }

    /// The model without the edits and without what had ended: what was in force, where [`Self::before`] is what
    /// the tables in the kernel contain.
    #[must_use]
    pub fn in_force(&self) -> &Model {
        self.ends.model.as_ref().unwrap_or(&self.before)
    }

    /// Whether there was an edit besides the removal of what had ended.
    #[must_use]
    pub const fn edited(&self) -> bool {
        self.ends.edited
    }

    /// Whether ends were stored by other clocks than those of now: what is in the kernel compares other times.
    #[must_use]
    pub const fn ends_moved(&self) -> bool {
        self.ends.moved
    }

    /// Whether a commit writes anything: edits, or what was recorded about the kernel and the clocks.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.changed || self.recorded
    }

    /// Changes when a rule ends by itself; `None`: never. The rule keeps its number, and with it its counter and
    /// its flows.
    ///
    /// # Errors
    /// The group has no such rule.
    pub fn set_rule_end(
        &mut self,
        id: &GroupId,
        rule: &RuleId,
        end: Option<End>,
    ) -> Result<(), Error> {
        if self.model.group_by_id(id)?.rule(rule)?.end == end {
            return Ok(());
        }
        self.write(Change::SetRuleEnd { group: id.clone(), rule: rule.clone(), end })
    }
}
