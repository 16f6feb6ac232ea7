//! A change: every edit is checked, written to SQLite and made in memory; the commit makes all of them
//! durable, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::cache::{ModelCache, Snapshot};
use super::ends::Ends;
use super::{Error, pending, write};
use crate::clock::Clocks;
use crate::model::apply::Plan;
use crate::model::{
    Change, Error as ModelError, Group, GroupId, Limits, Model, NewRule, Rule, RuleId, RuleSpec,
    VpcId, check,
};

mod acls;
mod addresses;
mod blocks;
mod client_tokens;
mod ends;
mod flow_logs;
mod interfaces;
mod prefix_lists;
mod rollback;
mod staged;
mod tags;
mod vpcs;

pub use acls::NewAcl;
pub use blocks::Blocked;
pub use client_tokens::Answered;
pub use prefix_lists::NewPrefixList;

/// A group to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// Its VPC.
    pub vpc: VpcId,
    /// As [`crate::model::group_name`] returned it.
    pub name: String,
    /// As [`crate::model::group_description`] returned it.
    pub description: String,
    /// As [`crate::model::tags::collect`] returned them.
    pub tags: BTreeMap<String, String>,
    /// The rules that it starts with.
    pub rules: Vec<NewRule>,
}

/// A change. Without [`Self::commit`] it is rolled back.
#[derive(Debug)]
pub struct Transaction<'a> {
    sql: rusqlite::Transaction<'a>,
    path: &'a Path,
    before: Arc<Model>,
    model: Arc<Model>,
    cache: &'a ModelCache,
    store: String,
    generation: u64,
    /// Something ended by itself, or will, when the transaction began.
    has_ends: bool,
    limits: Limits,
    changed: bool,
    /// The active addresses were recorded, which is no edit of the user's.
    recorded: bool,
    /// The tables were copied before the edits.
    copied: bool,
    /// An edit was written in part: the transaction must not be committed.
    incomplete: bool,
    clocks: Clocks,
    ends: ends::Settled,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(
        (sql, path): (rusqlite::Transaction<'a>, &'a Path),
        (snapshot, cache): (Snapshot, &'a ModelCache),
        limits: Limits,
        (clocks, moved): (Clocks, bool),
    ) -> Self {
        let Snapshot { id, generation, ends, model } = snapshot;
        Self {
            sql,
            path,
            before: Arc::clone(&model),
            model,
            cache,
            store: id,
            generation,
            has_ends: !ends.is_empty(),
            limits,
            changed: false,
            recorded: false,
            copied: false,
            incomplete: false,
            clocks,
            ends: ends::Settled::new(moved),
        }
    }

    /// The model without the edits.
    #[must_use]
    pub fn before(&self) -> &Model {
        &self.before
    }

    /// As [`Self::before`], not copied.
    #[must_use]
    pub fn shared_before(&self) -> Arc<Model> {
        Arc::clone(&self.before)
    }

    /// The model with the edits so far.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The number of changes before this one.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The limits of edits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether there was an edit.
    #[must_use]
    pub const fn changed(&self) -> bool {
        self.changed
    }

    /// Commits the edits to the disk; returns the generation. Without edits it commits only what
    /// [`Self::set_active_addresses`] has recorded.
    ///
    /// # Errors
    /// The store cannot be written; nothing has changed then.
    pub fn commit(self) -> Result<u64, Error> {
        let Self {
            sql,
            path,
            changed,
            recorded,
            copied,
            incomplete,
            clocks,
            ends,
            model,
            cache,
            ..
        } = self;
        let (id, generation) = (self.store, self.generation);
        let failed = |error| Error::sqlite(path, error);
        if incomplete {
            return Err(Error::Incomplete { path: path.to_owned() });
        }
        if !changed {
            if recorded && copied {
                // There is nothing to roll back.
                pending::drop_copy(&sql).map_err(failed)?;
            }
            if !recorded {
                return sql.rollback().map(|()| generation).map_err(failed);
            }
            // What is in the kernel is of the ends as they were stored before.
            let set = "UPDATE state SET generation = generation + ?1";
            sql.execute(set, [u32::from(ends.stored)]).map_err(failed)?;
            sql.commit().map_err(failed)?;
            return Ok(generation + u64::from(ends.stored));
        }
        if ends.is_done {
            super::ends::store_clocks(&sql, &clocks).map_err(failed)?;
        }
        sql.execute("UPDATE state SET generation = generation + 1", []).map_err(failed)?;
        let generation = generation + 1;
        let ends = Ends::new(&sql, &clocks).and_then(|ends| ends.all(&sql)).map_err(failed)?;
        cache.prepare(Snapshot { id, generation, ends, model });
        let committed = sql.execute_batch("COMMIT").map_err(failed);
        // Before the rollback of a commit that failed, after which another process may reach this generation.
        cache.settle(committed.is_ok());
        drop(sql);
        committed.map(|()| generation)
    }

    /// Writes an edit that was checked.
    fn write(&mut self, change: Change) -> Result<(), Error> {
        self.write_and(change, |_| ())
    }

    /// As [`Self::write`]; `read` reads what the store has assigned.
    fn write_and<T>(
        &mut self,
        mut change: Change,
        read: impl FnOnce(&Change) -> T,
    ) -> Result<T, Error> {
        let name =
            |id: &GroupId| self.model.groups.get(id).map_or(String::new(), |it| it.name.clone());
        write::change(&self.sql, &mut change, self.clocks.boot.as_deref(), name).map_err(
            |error| {
                self.incomplete = true;
                if matches!(error, rusqlite::Error::IntegralValueOutOfRange(..)) {
                    ModelError::RuleNumbersUsedUp.into()
                } else {
                    Error::sqlite(self.path, error)
                }
            },
        )?;
        self.changed = true;
        self.ends.edited = true;
        let assigned = read(&change);
        Arc::make_mut(&mut self.model).make(change);
        Ok(assigned)
    }

    /// Creates a group with its first rules.
    ///
    /// # Errors
    /// The name is taken, or a limit is reached.
    pub fn create_group(&mut self, new: NewGroup) -> Result<GroupId, Error> {
        let NewGroup { vpc, name, description, tags, rules } = new;
        self.model.check_new_group(&vpc, &name, &tags, &self.limits)?;
        let id = GroupId::random()?;
        let group = Group { id: id.clone(), vpc, name, description, rules: Vec::new(), tags };
        self.write(Change::CreateGroup(group))?;
        self.add_rules(&id, rules)?;
        Ok(id)
    }

    /// Deletes a group that only its own rules use.
    ///
    /// # Errors
    /// It is used, is the default one of its VPC, or does not exist.
    pub fn delete_group(&mut self, id: &GroupId) -> Result<(), Error> {
        self.model.check_group_deletable(self.model.group_by_id(id)?)?;
        self.write(Change::DeleteGroup(id.clone()))
    }

    /// Replaces a group's tags.
    ///
    /// # Errors
    /// There are too many, or the group does not exist.
    pub fn tag_group(&mut self, id: &GroupId, tags: BTreeMap<String, String>) -> Result<(), Error> {
        let group = self.model.group_by_id(id)?;
        check::check_tags(&format!("group {}", group.name), &tags, &self.limits)?;
        self.write(Change::TagGroup { group: id.clone(), tags })
    }

    /// Adds rules to a group, all or none; returns their ids in the order given.
    ///
    /// # Errors
    /// A rule exists already or is given twice, matches nothing, its peer does not exist, or a limit is reached.
    pub fn add_rules(&mut self, id: &GroupId, new: Vec<NewRule>) -> Result<Vec<RuleId>, Error> {
        for NewRule { spec, .. } in &new {
            self.model.check_peer(&spec.peer)?;
            self.model.mismatch(spec).map_or(Ok(()), Err)?;
        }
        self.add_rules_as_in_ec2(id, new, &BTreeMap::new())
    }

    /// As [`Self::add_rules`], with the same tags for each rule. As in EC2 a rule may match nothing, because its
    /// protocol does not exist in the family of its peer.
    ///
    /// # Errors
    /// A rule exists already or is given twice, its peer does not exist, or a limit is reached.
    pub fn add_rules_as_in_ec2(
        &mut self,
        id: &GroupId,
        new: Vec<NewRule>,
        tags: &BTreeMap<String, String>,
    ) -> Result<Vec<RuleId>, Error> {
        self.model.check_new_rules(self.model.group_by_id(id)?, &new, &self.limits)?;
        check::check_tags("rule", tags, &self.limits)?;
        let mut ids = Vec::new();
        for NewRule { spec, description, end } in new {
            let tags = tags.clone();
            let rule = Rule { id: RuleId::random()?, number: 0, spec, description, end, tags };
            ids.push(rule.id.clone());
            self.write(Change::AddRule { group: id.clone(), rule })?;
        }
        Ok(ids)
    }

    /// Removes rules of a group, all or none.
    ///
    /// # Errors
    /// The group has no such rule.
    pub fn remove_rules(&mut self, id: &GroupId, rules: &[RuleId]) -> Result<(), Error> {
        let group = self.model.group_by_id(id)?;
        for rule in rules {
            group.rule(rule)?;
        }
        for rule in rules {
            self.write(Change::RemoveRule { group: id.clone(), rule: rule.clone() })?;
        }
        Ok(())
    }

    /// Replaces the specifications of rules of a group, all or none. The rules keep their ids and numbers.
    ///
    /// # Errors
    /// The group has no such rule, or another one with a specification, a peer does not exist, or a limit is
    /// reached.
    pub fn modify_rules(
        &mut self,
        id: &GroupId,
        mut rules: Vec<(RuleId, RuleSpec)>,
    ) -> Result<(), Error> {
        let group = self.model.group_by_id(id)?;
        self.model.check_modified_rules(group, &rules, &self.limits)?;
        rules.retain(|(id, spec)| group.rule(id).is_ok_and(|rule| rule.spec != *spec));
        if rules.is_empty() {
            return Ok(());
        }
        self.write(Change::ModifyRules { group: id.clone(), rules })
    }

    /// Changes a rule's description, as [`crate::model::rule_description`] returned it.
    ///
    /// # Errors
    /// The group has no such rule.
    pub fn describe_rule(
        &mut self,
        id: &GroupId,
        rule: &RuleId,
        description: String,
    ) -> Result<(), Error> {
        if self.model.group_by_id(id)?.rule(rule)?.description == description {
            return Ok(());
        }
        self.write(Change::DescribeRule { group: id.clone(), rule: rule.clone(), description })
    }

    /// Makes the edits of a plan, which must have been computed from [`Self::model`] as it is now.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        plan.steps.iter().try_for_each(|step| self.write(step.change.clone()))
    }

    /// Replaces the management networks.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_management(&mut self, networks: BTreeSet<IpNet>) -> Result<(), Error> {
        if self.model.management == networks {
            return Ok(());
        }
        self.write(Change::SetManagement(networks))
    }

    /// Switches emergency mode on or off.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_panic(&mut self, is_panicking: bool) -> Result<(), Error> {
        if self.model.is_panicking == is_panicking {
            return Ok(());
        }
        self.write(Change::SetPanic(is_panicking))
    }
}
