//! A change in the making: every edit is checked, written, and made in memory; all of it becomes
//! true at the commit, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ipnet::IpNet;

use super::{Error, pending, write};
use crate::model::apply::Plan;
use crate::model::{
    Change, Error as ModelError, Family, Group, GroupId, Interface, Limits, Model, NewRule,
    PrefixList, PrefixListId, Rule, RuleId, check,
};

mod addresses;
mod keep;

/// A group to be made; with the rules that a new group has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// As [`crate::model::group_name`] returned it.
    pub name: String,
    /// As [`crate::model::group_description`] returned it.
    pub description: String,
    /// As [`crate::model::tags::collect`] returned them.
    pub tags: BTreeMap<String, String>,
}

/// A prefix list to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrefixList {
    /// As [`crate::model::prefix_list_name`] returned it.
    pub name: String,
    /// Every entry's.
    pub family: Family,
    /// Canonical networks with their descriptions.
    pub entries: BTreeMap<IpNet, String>,
    /// As [`crate::model::tags::collect`] returned them.
    pub tags: BTreeMap<String, String>,
}

/// A change in the making. Dropped without [`Self::commit`], it never was.
#[derive(Debug)]
pub struct Transaction<'a> {
    sql: rusqlite::Transaction<'a>,
    path: &'a Path,
    before: Model,
    model: Model,
    generation: u64,
    limits: Limits,
    changed: bool,
    /// Something was written that no user said.
    noted: bool,
    /// What was before the edits is kept.
    kept: bool,
    /// An edit was half written: none of it may be committed.
    broken: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(
        sql: rusqlite::Transaction<'a>,
        path: &'a Path,
        model: Model,
        generation: u64,
        limits: Limits,
    ) -> Self {
        let before = model.clone();
        Self {
            sql,
            path,
            before,
            model,
            generation,
            limits,
            changed: false,
            noted: false,
            kept: false,
            broken: false,
        }
    }

    /// The model without the edits.
    #[must_use]
    pub const fn before(&self) -> &Model {
        &self.before
    }

    /// The model with the edits so far.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// The number of changes made before this one.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The limits that edits are held to.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether there was an edit.
    #[must_use]
    pub const fn changed(&self) -> bool {
        self.changed
    }

    /// Makes the edits true, on disk; returns the generation. Without edits nothing is written but what
    /// [`Self::set_addresses_in_force`] has noted.
    ///
    /// # Errors
    /// When it cannot be written; nothing has changed then.
    pub fn commit(self) -> Result<u64, Error> {
        let Self { sql, path, generation, changed, noted, kept, broken, .. } = self;
        let told = |error| Error::sqlite(path, error);
        if broken {
            return Err(Error::Broken { path: path.to_owned() });
        }
        if !changed {
            if noted && kept {
                // There is nothing to take back.
                pending::forget(&sql).map_err(told)?;
            }
            if noted { sql.commit() } else { sql.rollback() }.map_err(told)?;
            return Ok(generation);
        }
        sql.execute("UPDATE state SET generation = generation + 1", []).map_err(told)?;
        sql.commit().map_err(told)?;
        Ok(generation + 1)
    }

    /// Writes an edit that was checked.
    fn write(&mut self, mut change: Change) -> Result<(), Error> {
        let name =
            |id: &GroupId| self.model.groups.get(id).map_or(String::new(), |it| it.name.clone());
        write::change(&self.sql, &mut change, name).map_err(|error| {
            self.broken = true;
            // The history's CHECK, which comes first, is the only one on a number.
            let full = matches!(error, rusqlite::Error::IntegralValueOutOfRange(..))
                || error.to_string().contains("CHECK constraint failed: number");
            if full {
                ModelError::RuleNumbersUsedUp.into()
            } else {
                Error::sqlite(self.path, error)
            }
        })?;
        self.changed = true;
        self.model.make(change);
        Ok(())
    }

    /// Makes a group with the rules that a new group has.
    ///
    /// # Errors
    /// When the name is taken or a limit is reached.
    pub fn create_group(&mut self, new: NewGroup) -> Result<GroupId, Error> {
        let NewGroup { name, description, tags } = new;
        self.model.check_new_group(&name, &tags, &self.limits)?;
        let id = GroupId::random()?;
        let group = Group { id: id.clone(), name, description, rules: Vec::new(), tags };
        self.write(Change::CreateGroup(group))?;
        self.add_rules(&id, Group::default_rules())?;
        Ok(id)
    }

    /// Removes a group that nothing but itself uses.
    ///
    /// # Errors
    /// When it is used, or not there.
    pub fn delete_group(&mut self, id: &GroupId) -> Result<(), Error> {
        self.model.check_group_unused(self.model.group_by_id(id)?)?;
        self.write(Change::DeleteGroup(id.clone()))
    }

    /// Replaces a group's tags.
    ///
    /// # Errors
    /// When there are too many, or the group is not there.
    pub fn tag_group(&mut self, id: &GroupId, tags: BTreeMap<String, String>) -> Result<(), Error> {
        let group = self.model.group_by_id(id)?;
        check::check_tags(&format!("group {}", group.name), &tags, &self.limits)?;
        self.write(Change::TagGroup { group: id.clone(), tags })
    }

    /// Adds rules to a group, all or none; returns their ids in the order given.
    ///
    /// # Errors
    /// When a rule is there already or twice, names what is not there, or a limit is reached.
    pub fn add_rules(&mut self, id: &GroupId, new: Vec<NewRule>) -> Result<Vec<RuleId>, Error> {
        self.model.check_new_rules(self.model.group_by_id(id)?, &new, &self.limits)?;
        let mut ids = Vec::new();
        for NewRule { spec, description } in new {
            let rule = Rule { id: RuleId::random()?, number: 0, spec, description };
            ids.push(rule.id.clone());
            self.write(Change::AddRule { group: id.clone(), rule })?;
        }
        Ok(ids)
    }

    /// Removes rules of a group, all or none.
    ///
    /// # Errors
    /// When the group has no such rule.
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

    /// Changes a rule's description, as [`crate::model::rule_description`] returned it.
    ///
    /// # Errors
    /// When the group has no such rule.
    pub fn describe_rule(
        &mut self,
        id: &GroupId,
        rule: &RuleId,
        description: String,
    ) -> Result<(), Error> {
        self.model.group_by_id(id)?.rule(rule)?;
        self.write(Change::DescribeRule { group: id.clone(), rule: rule.clone(), description })
    }

    /// Makes a prefix list.
    ///
    /// # Errors
    /// When the name is taken, an entry is of the other family, or a limit is reached.
    pub fn create_prefix_list(&mut self, new: NewPrefixList) -> Result<PrefixListId, Error> {
        let NewPrefixList { name, family, entries, tags } = new;
        self.model.check_new_prefix_list(&name, &tags, &self.limits)?;
        check::check_entries(&name, family, entries.keys(), &self.limits)?;
        let id = PrefixListId::random()?;
        let list = PrefixList { id: id.clone(), name, family, version: 1, entries, tags };
        self.write(Change::CreatePrefixList(list))?;
        Ok(id)
    }

    /// Adds entries to a prefix list, all or none.
    ///
    /// # Errors
    /// When an entry is there already, is of the other family, or a limit is reached; those of
    /// the groups that refer to the list too.
    pub fn add_entries(
        &mut self,
        id: &PrefixListId,
        new: BTreeMap<IpNet, String>,
    ) -> Result<(), Error> {
        let PrefixList { name, entries, .. } = self.model.prefix_list_by_id(id)?;
        let mut entries = entries.clone();
        for (network, description) in new {
            if entries.insert(network, description).is_some() {
                return Err(ModelError::EntryDuplicate { list: name.clone(), network }.into());
            }
        }
        self.set_entries(id, entries)
    }

    /// Removes entries from a prefix list, all or none.
    ///
    /// # Errors
    /// When an entry is not there.
    pub fn remove_entries(&mut self, id: &PrefixListId, gone: &[IpNet]) -> Result<(), Error> {
        let PrefixList { name, entries, .. } = self.model.prefix_list_by_id(id)?;
        let mut entries = entries.clone();
        for network in gone {
            if entries.remove(network).is_none() {
                let list = name.clone();
                return Err(ModelError::EntryNotFound { list, network: *network }.into());
            }
        }
        self.set_entries(id, entries)
    }

    fn set_entries(
        &mut self,
        id: &PrefixListId,
        entries: BTreeMap<IpNet, String>,
    ) -> Result<(), Error> {
        let list = self.model.prefix_list_by_id(id)?;
        check::check_entries(&list.name, list.family, entries.keys(), &self.limits)?;
        if list.entries == entries {
            return Ok(());
        }
        let grows = entries.len() > list.entries.len();
        let change = Change::SetEntries { list: id.clone(), entries };
        // Fewer entries never break a limit, not even one that was lowered meanwhile.
        if grows {
            let mut after = self.model.clone();
            after.make(change.clone());
            after.check_referring_groups(id, &self.limits)?;
        }
        self.write(change)
    }

    /// Removes a prefix list that no rule uses.
    ///
    /// # Errors
    /// When it is used, or not there.
    pub fn delete_prefix_list(&mut self, id: &PrefixListId) -> Result<(), Error> {
        self.model.check_prefix_list_unused(self.model.prefix_list_by_id(id)?)?;
        self.write(Change::DeletePrefixList(id.clone()))
    }

    /// Makes a plan true. It must have been made from [`Self::model`] as it is now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        plan.steps.iter().try_for_each(|step| self.write(step.change.clone()))
    }

    /// The smallest slot that no interface has.
    ///
    /// # Errors
    /// When all `capacity` slots are taken.
    pub fn free_slot(&self, capacity: u32) -> Result<u16, Error> {
        (0..=u16::MAX)
            .take_while(|slot| u32::from(*slot) < capacity)
            .find(|slot| !self.model.interfaces.contains_key(slot))
            .ok_or_else(|| {
                let count = self.model.interfaces.len() + 1;
                ModelError::InterfacesLimit { count, limit: capacity as usize }.into()
            })
    }

    /// Says which networks the host is managed from.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_management(&mut self, networks: BTreeSet<IpNet>) -> Result<(), Error> {
        if self.model.management == networks {
            return Ok(());
        }
        self.write(Change::SetManagement(networks))
    }

    /// Begins or ends panic.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_panic(&mut self, is_panicking: bool) -> Result<(), Error> {
        if self.model.is_panicking == is_panicking {
            return Ok(());
        }
        self.write(Change::SetPanic(is_panicking))
    }

    /// Attaches groups to a device, in place of what the slot holds.
    ///
    /// # Errors
    /// When a group is not there or twice, the device has another slot, or a limit is reached.
    pub fn put_interface(&mut self, interface: &Interface) -> Result<(), Error> {
        self.model.check_interface(interface, &self.limits)?;
        if self.model.interfaces.get(&interface.slot) == Some(interface) {
            return Ok(());
        }
        self.write(Change::PutInterface(interface.clone()))
    }

    /// Detaches what the slot holds.
    ///
    /// # Errors
    /// When it holds nothing.
    pub fn delete_interface(&mut self, slot: u16) -> Result<(), Error> {
        if !self.model.interfaces.contains_key(&slot) {
            return Err(ModelError::InterfaceNotFound(slot.to_string()).into());
        }
        self.write(Change::DeleteInterface(slot))
    }
}
