//! Edits of staged changes of rules.

use std::collections::BTreeMap;

use super::Transaction;
use crate::model::{self, Change, GroupId, NewRule, Rule, RuleId, Staged, StagedChange};
use crate::store::Error;

impl Transaction<'_> {
    /// Stages rules to be added to a group, all or none; returns their ids in the order given. They do not end by
    /// themselves.
    ///
    /// # Errors
    /// The group has a rule, also staged, or it is given twice, matches nothing, its peer does not exist, or a limit
    /// would be exceeded.
    pub fn stage_rules(&mut self, id: &GroupId, new: Vec<NewRule>) -> Result<Vec<RuleId>, Error> {
        for NewRule { spec, .. } in &new {
            self.model.check_peer(&spec.peer)?;
            self.model.mismatch(spec).map_or(Ok(()), Err)?;
        }
        self.model.check_staged_rules(self.model.group_by_id(id)?, &new, &self.limits)?;
        let mut ids = Vec::new();
        for NewRule { spec, description, end: _ } in new {
            let rule = RuleId::random()?;
            ids.push(rule.clone());
            self.stage(id, rule, StagedChange::Add { spec, description })?;
        }
        Ok(ids)
    }

    /// Stages the removal of rules of a group, all or none.
    ///
    /// # Errors
    /// The group has no such rule, or its removal is staged already.
    pub fn stage_removals(&mut self, id: &GroupId, rules: &[RuleId]) -> Result<(), Error> {
        let group = self.model.group_by_id(id)?;
        for rule in rules {
            group.rule(rule)?;
            if self.model.staged.contains_key(rule) {
                let (group, rule) = (group.name.clone(), rule.clone());
                return Err(model::Error::RemovalDuplicate { group, rule }.into());
            }
        }
        rules.iter().try_for_each(|rule| self.stage(id, rule.clone(), StagedChange::Remove))
    }

    /// Drops staged changes of a group, all or none.
    ///
    /// # Errors
    /// The group has no such staged change.
    pub fn unstage(&mut self, id: &GroupId, rules: &[RuleId]) -> Result<(), Error> {
        let group = self.model.group_by_id(id)?;
        for rule in rules {
            self.model.staged_change(group, rule)?;
        }
        rules.iter().try_for_each(|rule| self.write(Change::Unstage(rule.clone())))
    }

    /// Makes staged changes of a group take effect, all or none: rules are removed, then others added with the ids
    /// that they had.
    ///
    /// # Errors
    /// The group has no such staged change, has a rule meanwhile, or a limit is exceeded.
    pub fn enforce_staged(&mut self, id: &GroupId, rules: &[RuleId]) -> Result<(), Error> {
        let group = self.model.group_by_id(id)?;
        let mut added = Vec::new();
        for rule in rules {
            if let StagedChange::Add { spec, description } =
                &self.model.staged_change(group, rule)?.change
            {
                let new = NewRule::new(spec.clone(), description)?;
                added.push((rule.clone(), new));
            }
        }
        let removed = |rule: &&RuleId| !added.iter().any(|(id, _)| id == *rule);
        let removed: Vec<&RuleId> = rules.iter().filter(removed).collect();
        let mut without = group.clone();
        without.rules.retain(|rule| !removed.contains(&&rule.id));
        let new: Vec<NewRule> = added.iter().map(|(_, new)| new.clone()).collect();
        self.model.check_new_rules(&without, &new, &self.limits)?;
        for rule in removed {
            // Its staged removal goes with it.
            self.write(Change::RemoveRule { group: id.clone(), rule: rule.clone() })?;
        }
        for (rule, NewRule { spec, description, end }) in added {
            self.write(Change::Unstage(rule.clone()))?;
            let rule = Rule { id: rule, number: 0, spec, description, end, tags: BTreeMap::new() };
            self.write(Change::AddRule { group: id.clone(), rule })?;
        }
        Ok(())
    }

    fn stage(&mut self, group: &GroupId, rule: RuleId, change: StagedChange) -> Result<(), Error> {
        let created = self.clocks.moment.wall;
        let staged = Staged { group: group.clone(), created, change };
        self.write(Change::Stage { rule, staged })
    }
}
