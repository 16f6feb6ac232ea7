//! Compares a document with the model.

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::IpNet;

use super::{Line, Plan, Sign, Step};
use crate::model::document::{Error, WantedGroup, WantedList, WantedPeer, WantedRule};
use crate::model::{
    Change, Error as ModelError, Group, GroupId, Limits, Model, Peer, PrefixList, PrefixListId,
    Rule, RuleId, RuleSpec, check,
};

/// Builds a plan, with the model as the steps so far leave it.
pub(super) struct Planner<'a> {
    after: Model,
    limits: &'a Limits,
    steps: Vec<Step>,
    /// The ids of this host by those of the document.
    groups: HashMap<GroupId, GroupId>,
    lists: HashMap<PrefixListId, PrefixListId>,
    /// Lists with more entries than before, with their places in the document.
    grown: Vec<(String, PrefixListId)>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(model: &Model, limits: &'a Limits) -> Self {
        Self {
            after: model.clone(),
            limits,
            steps: Vec::new(),
            groups: HashMap::new(),
            lists: HashMap::new(),
            grown: Vec::new(),
        }
    }

    fn step(&mut self, change: Change, lines: Vec<Line>) {
        self.after.make(change.clone());
        self.steps.push(Step { change, lines });
    }

    /// Prefix lists come first, because rules refer to them.
    pub(super) fn lists(&mut self, wanted: &[WantedList]) -> Result<(), Error> {
        let mut names = HashSet::new();
        for list in wanted {
            let at = list.path.as_str();
            if !names.insert(list.name.to_ascii_lowercase()) {
                return Err(twice(
                    at,
                    format!("prefix list {} is in the document twice", list.name),
                ));
            }
            check::check_entries(&list.name, list.family, list.entries.keys(), self.limits)
                .map_err(Error::at(at))?;
            let id = match self.list_here(list).map_err(Error::at(at))?.cloned() {
                None => self.create_list(list),
                Some(here) => self.change_list(list, &here),
            }
            .map_err(Error::at(at))?;
            if let Some(theirs) = &list.id {
                self.lists.insert(theirs.clone(), id);
            }
        }
        Ok(())
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
        self.after.check_new_prefix_list(&list.name, &tags, self.limits)?;
        let id = list.id.clone().map_or_else(PrefixListId::random, Ok)?;
        let mut lines = vec![Line {
            sign: Sign::Add,
            object: format!("prefix-list {}", list.name),
            id: Some(id.to_string()),
            is_generated: list.id.is_none(),
            text: list.family.name().to_owned(),
        }];
        lines.extend(entry_lines(&list.name, &BTreeMap::new(), &list.entries));
        self.step(
            Change::CreatePrefixList(PrefixList {
                id: id.clone(),
                name: list.name.clone(),
                family: list.family,
                version: list.version,
                entries: list.entries.clone(),
                tags,
            }),
            lines,
        );
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
        if list.entries != *entries {
            if list.entries.len() > entries.len() {
                self.grown.push((list.path.clone(), id.clone()));
            }
            self.step(
                Change::SetEntries { list: id.clone(), entries: list.entries.clone() },
                entry_lines(name, entries, &list.entries),
            );
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

    /// Groups, then their rules, which may refer to any group of the document.
    pub(super) fn groups(&mut self, wanted: &[WantedGroup]) -> Result<(), Error> {
        let mut names: HashMap<_, &WantedGroup> = HashMap::new();
        let mut ids = Vec::new();
        for group in wanted {
            let at = group.path.as_str();
            if let Some(other) = names.insert(group.name.to_ascii_lowercase(), group) {
                let (one, two) = (other.vpc.as_deref(), group.vpc.as_deref());
                return Err(twice(
                    at,
                    match (one, two) {
                        (Some(one), Some(two)) if one != two => {
                            format!(
                                "group {} is in the document twice, from {one} and {two}",
                                group.name
                            )
                        }
                        _ => format!("group {} is in the document twice", group.name),
                    },
                ));
            }
            let id = match self.group_here(group).map_err(Error::at(at))?.cloned() {
                None => self.create_group(group),
                Some(here) => self.change_group(group, &here),
            }
            .map_err(Error::at(at))?;
            if let Some(theirs) = &group.id {
                self.groups.insert(theirs.clone(), id.clone());
            }
            ids.push(id);
        }
        for (group, id) in wanted.iter().zip(ids) {
            self.rules(group, &id)?;
        }
        Ok(())
    }

    fn group_here(&self, group: &WantedGroup) -> Result<Option<&Group>, ModelError> {
        match group.id.as_ref().and_then(|id| self.after.groups.get(id)) {
            Some(Group { name, id, .. }) if !name.eq_ignore_ascii_case(&group.name) => {
                Err(ModelError::GroupIdTaken { name: name.clone(), id: id.clone() })
            }
            Some(here) => Ok(Some(here)),
            None => Ok(self.after.group_named(&group.name)),
        }
    }

    fn create_group(&mut self, group: &WantedGroup) -> Result<GroupId, ModelError> {
        let tags = group.tags.clone().unwrap_or_default();
        self.after.check_new_group(&group.name, &tags, self.limits)?;
        let id = group.id.clone().map_or_else(GroupId::random, Ok)?;
        let line = Line {
            sign: Sign::Add,
            object: format!("group {}", group.name),
            id: Some(id.to_string()),
            is_generated: group.id.is_none(),
            text: String::new(),
        };
        self.step(
            Change::CreateGroup(Group {
                id: id.clone(),
                name: group.name.clone(),
                description: group.description.clone(),
                rules: Vec::new(),
                tags,
            }),
            vec![line],
        );
        Ok(id)
    }

    fn change_group(&mut self, group: &WantedGroup, here: &Group) -> Result<GroupId, ModelError> {
        let Group { id, name, description, tags, .. } = here;
        if group.description != *description {
            return Err(ModelError::DescriptionFixed {
                name: name.clone(),
                here: description.clone(),
                wanted: group.description.clone(),
            });
        }
        if let Some(wanted) = group.tags.as_ref().filter(|wanted| *wanted != tags) {
            check::check_tags(&format!("group {name}"), wanted, self.limits)?;
            self.step(
                Change::TagGroup { group: id.clone(), tags: wanted.clone() },
                vec![tags_line(format!("group {name}"), id.as_str())],
            );
        }
        Ok(id.clone())
    }

    fn rules(&mut self, wanted: &WantedGroup, id: &GroupId) -> Result<(), Error> {
        let mut specs = Vec::new();
        let mut missing = HashMap::new();
        for rule in &wanted.rules {
            let spec = self.resolve(rule)?;
            self.after.check_spec(&spec).map_err(Error::at(&rule.path))?;
            if missing.insert(spec.clone(), rule).is_some() {
                return Err(Error::at(&rule.path)(ModelError::RuleRepeated(spec)));
            }
            specs.push((spec, rule));
        }
        let here = self.after.group_by_id(id).map_err(Error::at(&wanted.path))?.clone();
        for rule in here.rules {
            let line = |sign, text| Line {
                sign,
                object: here.name.clone(),
                id: Some(rule.id.to_string()),
                is_generated: false,
                text,
            };
            let text = self.after.spec_text(&rule.spec);
            match missing.remove(&rule.spec) {
                None => {
                    let line = line(Sign::Remove, text);
                    self.step(
                        Change::RemoveRule { group: id.clone(), rule: rule.id.clone() },
                        vec![line],
                    );
                }
                Some(wanted) if wanted.description != rule.description => {
                    let line = line(Sign::Change, with_description(text, &wanted.description));
                    let description = wanted.description.clone();
                    let change = Change::DescribeRule {
                        group: id.clone(),
                        rule: rule.id.clone(),
                        description,
                    };
                    self.step(change, vec![line]);
                }
                Some(_) => {}
            }
        }
        // In the order of the document, so that the numbers follow it.
        for (spec, rule) in specs {
            if !missing.contains_key(&spec) {
                continue;
            }
            let text = with_description(self.after.spec_text(&spec), &rule.description);
            let rule = Rule {
                id: RuleId::random().map_err(Error::at(&rule.path))?,
                number: 0,
                spec,
                description: rule.description.clone(),
            };
            let line = Line {
                sign: Sign::Add,
                object: here.name.clone(),
                id: Some(rule.id.to_string()),
                is_generated: true,
                text,
            };
            self.step(Change::AddRule { group: id.clone(), rule }, vec![line]);
        }
        Ok(())
    }

    /// The rule, with its peer by the ids of this host.
    fn resolve(&self, rule: &WantedRule) -> Result<RuleSpec, Error> {
        let peer = match &rule.peer {
            WantedPeer::Network(network) => Peer::from(*network),
            WantedPeer::PrefixList(theirs) => {
                let id = self.lists.get(theirs).unwrap_or(theirs);
                if !self.after.prefix_lists.contains_key(id) {
                    return Err(Error::Foreign {
                        path: rule.path.clone(),
                        reason: format!(
                            "prefix list {id} is neither on this host nor in the document"
                        ),
                        hint: "add it to the document's PrefixLists, with its Entries",
                    });
                }
                Peer::PrefixList(id.clone())
            }
            WantedPeer::GroupId(theirs) => {
                let id = self.groups.get(theirs).unwrap_or(theirs);
                if !self.after.groups.contains_key(id) {
                    return Err(unknown_group(rule, id.as_str()));
                }
                Peer::Group(id.clone())
            }
            WantedPeer::GroupName(name) => match self.after.group_named(name) {
                Some(group) => Peer::Group(group.id.clone()),
                None => return Err(unknown_group(rule, &format!("{name:?}"))),
            },
        };
        Ok(RuleSpec { direction: rule.direction, traffic: rule.traffic, peer })
    }

    /// Checks the limits of what grew, when all edits are known.
    pub(super) fn finish(self, wanted: &[WantedGroup]) -> Result<Plan, Error> {
        let grown: HashSet<_> = self
            .steps
            .iter()
            .filter_map(|step| match &step.change {
                Change::AddRule { group, .. } => Some(group),
                _ => None,
            })
            .collect();
        for group in wanted {
            if let Some(here) = self.after.group_named(&group.name)
                && grown.contains(&here.id)
            {
                let specs = here.rules.iter().map(|rule| &rule.spec);
                self.after
                    .check_count(&here.name, specs, self.limits)
                    .map_err(Error::at(&group.path))?;
            }
        }
        for (path, list) in &self.grown {
            self.after.check_referring_groups(list, self.limits).map_err(Error::at(path))?;
        }
        Ok(Plan { steps: self.steps })
    }
}

fn entry_lines(
    name: &str,
    here: &BTreeMap<IpNet, String>,
    wanted: &BTreeMap<IpNet, String>,
) -> Vec<Line> {
    let line = |sign, text| Line {
        sign,
        object: format!("prefix-list {name}"),
        id: None,
        is_generated: false,
        text,
    };
    let gone = here
        .keys()
        .filter(|network| !wanted.contains_key(network))
        .map(|network| line(Sign::Remove, network.to_string()));
    let come = wanted.iter().filter_map(|(network, description)| {
        let text = with_description(network.to_string(), description);
        match here.get(network) {
            None => Some(line(Sign::Add, text)),
            Some(other) if other != description => Some(line(Sign::Change, text)),
            Some(_) => None,
        }
    });
    gone.chain(come).collect()
}

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

fn twice(path: &str, reason: String) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        reason,
        hint: "names are unique on this host, ignoring case: apply one of the two",
    }
}

fn unknown_group(rule: &WantedRule, group: &str) -> Error {
    Error::Foreign {
        path: rule.path.clone(),
        reason: format!("group {group} is neither on this host nor in the document"),
        hint: "add it to the document, or create it first",
    }
}
