//! Prefix lists: compared with a document by id, then by name.

use std::collections::HashSet;

use super::{Line, Planner, Sign, tags_line, twice, with_description};
use crate::model::document::{Error, Wanted, WantedList, WantedPeer};
use crate::model::{
    Change, Entries, EntryChange, Error as ModelError, ListState, PrefixList, PrefixListId, check,
};

impl Planner<'_> {
    /// Prefix lists come first, because rules refer to them.
    pub(super) fn lists(&mut self, wanted: &Wanted) {
        let of_rules = wanted.groups.iter().flat_map(|group| &group.rules).map(|rule| &rule.peer);
        let of_entries = wanted.acls.iter().flat_map(|acl| &acl.entries).map(|entry| &entry.peer);
        let used: HashSet<_> = of_rules
            .chain(of_entries)
            .filter_map(|peer| match peer {
                WantedPeer::PrefixList(id) => Some(id),
                _ => None,
            })
            .collect();
        let mut names = HashSet::new();
        for list in &wanted.lists {
            let is_used = list.id.as_ref().is_some_and(|id| used.contains(id));
            match self.list(list, is_used, &mut names) {
                Ok(id) => {
                    if let (Some(theirs), Some(id)) = (&list.id, id) {
                        self.lists.insert(theirs.clone(), id);
                    }
                }
                Err(error) => {
                    self.findings.error(error);
                    self.broken.insert([list.id.as_ref().map(PrefixListId::as_str), None]);
                }
            }
        }
    }

    /// The list of this host; `None` where none is needed.
    fn list(
        &mut self,
        list: &WantedList,
        is_used: bool,
        names: &mut HashSet<String>,
    ) -> Result<Option<PrefixListId>, Error> {
        let at = list.path.as_str();
        if !names.insert(list.name.to_ascii_lowercase()) {
            let reason = format!("prefix list {} is in the document twice", list.name);
            return Err(twice(at, reason));
        }
        if let Some(entries) = &list.entries {
            check::check_entries(&list.name, list.family, entries, self.limits)
                .map_err(Error::at(at))?;
        }
        match self.list_here(list).map_err(Error::at(at))?.cloned() {
            // AWS prints all lists of its own, also those that no rule uses.
            None if list.is_aws && list.entries.is_none() && !is_used => return Ok(None),
            None => self.create_list(list),
            Some(here) => self.change_list(list, &here),
        }
        .map(Some)
        .map_err(Error::at(at))
    }

    fn list_here(&self, list: &WantedList) -> Result<Option<&PrefixList>, ModelError> {
        match list.id.as_ref().and_then(|id| self.after.prefix_lists.get(id)) {
            Some(PrefixList { name, id, .. }) if !name.eq_ignore_ascii_case(&list.name) => {
                Err(ModelError::PrefixListIdTaken { name: name.clone(), id: id.clone() })
            }
            Some(here) => Ok(Some(here)),
            None => Ok(self.after.prefix_list_named(&list.name)),
        }
    }

    fn create_list(&mut self, list: &WantedList) -> Result<PrefixListId, ModelError> {
        let tags = list.tags.clone().unwrap_or_default();
        if list.is_aws {
            // These are not counted in EC2.
            check::check_tags(&format!("prefix list {}", list.name), &tags, self.limits)?;
        } else {
            self.after.check_new_prefix_list(&list.name, &tags, self.limits)?;
        }
        let entries = list.entries.clone().unwrap_or_default();
        let id = list.id.clone().map_or_else(PrefixListId::random, Ok)?;
        let mut lines = vec![Line {
            sign: Sign::Add,
            object: format!("prefix-list {}", list.name),
            id: Some(id.to_string()),
            is_generated: list.id.is_none(),
            text: list.family.name().to_owned(),
        }];
        lines.extend(entry_lines(&list.name, &Entries::default(), &entries));
        self.step(
            Change::CreatePrefixList(PrefixList {
                id: id.clone(),
                name: list.name.clone(),
                family: list.family,
                version: list.version,
                entries,
                max_entries: list.max_entries,
                is_aws: list.is_aws,
                state: ListState::default(),
                tags,
            }),
            lines,
        );
        if list.entries.is_none() {
            self.without_entries.insert(id.clone());
            let text = format!(
                "prefix list {} has no entries in the document: rules with it match nothing until it has \
                 some (aws ec2 get-managed-prefix-list-entries prints them; --entries {id}=FILE adds them)",
                list.name
            );
            self.findings.warn(&list.path, text);
        }
        Ok(id)
    }

    fn change_list(
        &mut self,
        list: &WantedList,
        here: &PrefixList,
    ) -> Result<PrefixListId, ModelError> {
        let PrefixList { id, name, family, entries, tags, .. } = here;
        if list.family != *family {
            return Err(ModelError::FamilyFixed {
                name: name.clone(),
                here: *family,
                wanted: list.family,
            });
        }
        let max_entries = new_size(list, here);
        if max_entries != here.max_entries {
            let line = Line {
                text: max_entries.map_or_else(
                    || "as large as its entries".to_owned(),
                    |max| format!("up to {max} entries"),
                ),
                ..tags_line(format!("prefix-list {name}"), id.as_str())
            };
            let (name, state) = (name.clone(), ListState::Modified);
            let change = Change::SetPrefixList { list: id.clone(), name, max_entries, state };
            self.step(change, vec![line]);
        }
        if let Some(wanted) = list.entries.as_ref().filter(|wanted| *wanted != entries) {
            self.step(
                Change::SetEntries { list: id.clone(), entries: wanted.clone() },
                entry_lines(name, entries, wanted),
            );
        }
        if self.after.prefix_lists.get(id).is_some_and(|after| after.weight() > here.weight()) {
            self.grown.push((list.path.clone(), id.clone()));
        }
        if let Some(wanted) = list.tags.as_ref().filter(|wanted| *wanted != tags) {
            check::check_tags(&format!("prefix list {name}"), wanted, self.limits)?;
            self.step(
                Change::TagPrefixList { list: id.clone(), tags: wanted.clone() },
                vec![tags_line(format!("prefix-list {name}"), id.as_str())],
            );
        }
        Ok(id.clone())
    }
}

/// The size of a list of this host after a document: as it is, unless it would count as another number of rules
/// than in the document, or be too small for the entries.
fn new_size(wanted: &WantedList, here: &PrefixList) -> Option<u32> {
    let entries = wanted.entries.as_ref().unwrap_or(&here.entries);
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let after = PrefixList { entries: entries.clone(), ..here.clone() };
    match wanted.weight {
        Some(weight) if weight.max(1) == after.weight() as u64 => here.max_entries,
        Some(_) => wanted.max_entries,
        None => here.max_entries.map(|max| max.max(count)),
    }
}

fn entry_lines(name: &str, here: &Entries, wanted: &Entries) -> Vec<Line> {
    let line = |sign, text| Line {
        sign,
        object: format!("prefix-list {name}"),
        id: None,
        is_generated: false,
        text,
    };
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for change in here.diff(wanted) {
        match change {
            EntryChange::Removed(network) => gone.push(line(Sign::Remove, network.to_string())),
            EntryChange::Added(network, text) => {
                come.push(line(Sign::Add, with_description(network.to_string(), text)));
            }
            EntryChange::Described(network, text) => {
                come.push(line(Sign::Change, with_description(network.to_string(), text)));
            }
        }
    }
    gone.append(&mut come);
    gone
}
