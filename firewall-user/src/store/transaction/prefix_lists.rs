//! Edits of prefix lists.

use std::collections::BTreeMap;

use super::Transaction;
use crate::model::{
    Change, Entries, Error as ModelError, Family, ListState, Networks, PrefixList, PrefixListId,
    check,
};
use crate::store::entries::Cache;
use crate::store::{Error, versions};

/// A prefix list to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrefixList {
    /// As [`crate::model::prefix_list_name`] returned it.
    pub name: String,
    /// Family of every entry.
    pub family: Family,
    /// Canonical networks with their descriptions.
    pub entries: Entries,
    /// EC2's `MaxEntries`; `None`: as many as it has.
    pub max_entries: Option<u32>,
    /// As [`crate::model::tags::collect`] returned them.
    pub tags: BTreeMap<String, String>,
}

impl Transaction<'_> {
    /// Creates a prefix list.
    ///
    /// # Errors
    /// The name is taken, an entry is of the other family, or a limit is reached.
    pub fn create_prefix_list(&mut self, new: NewPrefixList) -> Result<PrefixListId, Error> {
        let NewPrefixList { name, family, entries, max_entries, tags } = new;
        self.model.check_new_prefix_list(&name, &tags, &self.limits)?;
        check::check_entries(&name, family, &entries, &self.limits)?;
        check::check_max_entries(&name, &entries, max_entries, &self.limits)?;
        let id = PrefixListId::random()?;
        let list = PrefixList {
            id: id.clone(),
            name,
            family,
            version: 1,
            entries,
            max_entries,
            is_aws: false,
            state: ListState::Created,
            tags,
        };
        self.write(Change::CreatePrefixList(list))?;
        Ok(id)
    }

    /// Adds entries to a prefix list, all or none.
    ///
    /// # Errors
    /// An entry exists already, or as [`Self::set_entries`].
    pub fn add_entries(&mut self, id: &PrefixListId, new: &Entries) -> Result<(), Error> {
        let PrefixList { name, entries, .. } = self.model.prefix_list_by_id(id)?;
        let entries = entries
            .with(new)
            .map_err(|network| ModelError::EntryDuplicate { list: name.clone(), network })?;
        self.set_entries(id, entries)
    }

    /// Removes entries from a prefix list, all or none.
    ///
    /// # Errors
    /// An entry does not exist, or AWS manages the list.
    pub fn remove_entries(&mut self, id: &PrefixListId, networks: &Networks) -> Result<(), Error> {
        let PrefixList { name, entries, .. } = self.model.prefix_list_by_id(id)?;
        let entries = entries
            .without(networks)
            .map_err(|network| ModelError::EntryNotFound { list: name.clone(), network })?;
        self.set_entries(id, entries)
    }

    /// Replaces the entries of a prefix list: a new version, unless they are the same.
    ///
    /// # Errors
    /// An entry is of the other family, AWS manages the list, or a limit is reached, also one of a group with
    /// rules that have the list as their peer.
    pub fn set_entries(&mut self, id: &PrefixListId, entries: Entries) -> Result<(), Error> {
        if self.model.prefix_list_by_id(id)?.entries == entries {
            return Ok(());
        }
        self.put_entries(id, entries)
    }

    fn put_entries(&mut self, id: &PrefixListId, entries: Entries) -> Result<(), Error> {
        let list = self.require_own(id)?;
        check::check_entries(&list.name, list.family, &entries, &self.limits)?;
        let grows = entries.len() > list.entries.len();
        // Fewer entries are accepted also if a limit was lowered below their number meanwhile.
        if grows {
            check::check_full(&list.name, &entries, list.max_entries)?;
        }
        let was = list.weight();
        self.write_and_check(id, was, Change::SetEntries { list: id.clone(), entries })
    }

    /// Changes the name and the `MaxEntries` of a prefix list, which makes no new version.
    ///
    /// # Errors
    /// The name is taken, AWS manages the list, the list has more entries, or a limit is reached, also one of a
    /// group with rules that have the list as their peer.
    pub fn set_prefix_list(
        &mut self,
        id: &PrefixListId,
        name: String,
        max_entries: Option<u32>,
    ) -> Result<(), Error> {
        let list = self.require_own(id)?;
        if let Some(other) = self.model.prefix_list_named(&name).filter(|other| other.id != *id) {
            let (name, id) = (other.name.clone(), other.id.clone());
            return Err(ModelError::PrefixListDuplicate { name, id }.into());
        }
        if list.max_entries != max_entries {
            check::check_max_entries(&list.name, &list.entries, max_entries, &self.limits)?;
        }
        let was = list.weight();
        let state = ListState::Modified;
        self.write_and_check(
            id,
            was,
            Change::SetPrefixList { list: id.clone(), name, max_entries, state },
        )
    }

    /// Makes a new version of a prefix list, with the entries of an earlier one.
    ///
    /// # Errors
    /// The version is not kept, or as [`Self::set_entries`].
    pub fn restore_prefix_list(&mut self, id: &PrefixListId, version: u64) -> Result<(), Error> {
        let list = self.require_own(id)?;
        let (name, max_entries, family) = (list.name.clone(), list.max_entries, list.family);
        let earlier = versions::get(&self.sql, &Cache::default(), family, id, version);
        let earlier = earlier.map_err(|error| Error::sqlite(self.path, error))?;
        let missing = || ModelError::ListVersionNotFound { list: name.clone(), version };
        self.put_entries(id, earlier.ok_or_else(missing)?)?;
        let state = ListState::Restored;
        self.write(Change::SetPrefixList { list: id.clone(), name, max_entries, state })
    }

    /// Replaces the tags of a prefix list.
    ///
    /// # Errors
    /// There are too many, or the list does not exist.
    pub fn tag_prefix_list(
        &mut self,
        id: &PrefixListId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let list = self.model.prefix_list_by_id(id)?;
        check::check_tags(&format!("prefix list {}", list.name), &tags, &self.limits)?;
        self.write(Change::TagPrefixList { list: id.clone(), tags })
    }

    /// Deletes a prefix list that no rule, entry of a network ACL or block uses.
    ///
    /// # Errors
    /// It is used, or does not exist.
    pub fn delete_prefix_list(&mut self, id: &PrefixListId) -> Result<(), Error> {
        self.model.check_prefix_list_unused(self.model.prefix_list_by_id(id)?)?;
        self.write(Change::DeletePrefixList(id.clone()))
    }

    /// Creates a list of AWS, as a document does.
    ///
    /// # Errors
    /// The store cannot be written.
    #[cfg(test)]
    pub(crate) fn create_list_of_aws(&mut self, list: PrefixList) -> Result<(), Error> {
        self.write(Change::CreatePrefixList(list))
    }

    /// The list, if it is not one of AWS.
    fn require_own(&self, id: &PrefixListId) -> Result<&PrefixList, Error> {
        let list = self.model.prefix_list_by_id(id)?;
        if list.is_aws {
            return Err(ModelError::PrefixListOfAws(list.name.clone()).into());
        }
        Ok(list)
    }

    /// Writes an edit of a list that had a weight; where the edit makes it weigh more, the groups with rules that
    /// have it as their peer must have room.
    fn write_and_check(
        &mut self,
        id: &PrefixListId,
        was: usize,
        change: Change,
    ) -> Result<(), Error> {
        let mut after = crate::model::Model::clone(&self.model);
        after.make(change.clone());
        if after.prefix_list_by_id(id)?.weight() > was {
            after.check_referring_groups(id, &self.limits)?;
        }
        self.write(change)
    }
}
