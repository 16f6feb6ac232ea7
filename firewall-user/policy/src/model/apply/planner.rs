//! Compares a document with the model.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use super::{DEFAULT_GROUP, Line, Others, Plan, Sign, Step};
use crate::model::document::{
    Broken, Error, Errors, Findings, WantedAcl, WantedGroup, WantedList, WantedPeer, WantedRule,
};
use crate::model::{
    AclId, Change, End, Entries, EntryChange, Error as ModelError, Group, GroupId, Limits, Model,
    Peer, PrefixList, PrefixListId, Rule, RuleId, RuleSpec, VpcId, check,
};

mod acl;

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
    /// The groups of this host that the document has.
    mentioned: HashSet<GroupId>,
    /// The network ACLs of this host that the document has.
    acls: HashSet<AclId>,
    findings: Findings,
    broken: Broken,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        model: &Model,
        limits: &'a Limits,
        findings: Findings,
        broken: Broken,
    ) -> Self {
        Self {
            after: model.clone(),
            limits,
            steps: Vec::new(),
            groups: HashMap::new(),
            lists: HashMap::new(),
            grown: Vec::new(),
            mentioned: HashSet::new(),
            acls: HashSet::new(),
            findings,
            broken,
        }
    }

    fn step(&mut self, change: Change, lines: Vec<Line>) {
        self.after.make(change.clone());
        self.steps.push(Step { change, lines });
    }

    /// Prefix lists come first, because rules refer to them.
    pub(super) fn lists(&mut self, wanted: &[WantedList]) {
        let mut names = HashSet::new();
        for list in wanted {
            match self.list(list, &mut names) {
                Ok(id) => {
                    if let Some(theirs) = &list.id {
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

    fn list(
        &mut self,
        list: &WantedList,
        names: &mut HashSet<String>,
    ) -> Result<PrefixListId, Error> {
        let at = list.path.as_str();
        if !names.insert(list.name.to_ascii_lowercase()) {
            let reason = format!("prefix list {} is in the document twice", list.name);
            return Err(twice(at, reason));
        }
        check::check_entries(&list.name, list.family, &list.entries, self.limits)
            .map_err(Error::at(at))?;
        match self.list_here(list).map_err(Error::at(at))?.cloned() {
            None => self.create_list(list),
            Some(here) => self.change_list(list, &here),
        }
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
        self.after.check_new_prefix_list(&list.name, &tags, self.limits)?;
        let id = list.id.clone().map_or_else(PrefixListId::random, Ok)?;
        let mut lines = vec![Line {
            sign: Sign::Add,
            object: format!("prefix-list {}", list.name),
            id: Some(id.to_string()),
            is_generated: list.id.is_none(),
            text: list.family.name().to_owned(),
        }];
        lines.extend(entry_lines(&list.name, &Entries::default(), &list.entries));
        self.step(
            Change::CreatePrefixList(PrefixList {
                id: id.clone(),
                name: list.name.clone(),
                family: list.family,
                version: list.version,
                entries: list.entries.clone(),
                max_entries: None,
                is_aws: false,
                state: Default::default(),
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
    pub(super) fn groups(&mut self, wanted: &[WantedGroup]) {
        let mut names = HashMap::new();
        let mut placed = Vec::new();
        for group in wanted {
            match self.group(group, &mut names) {
                Ok(id) => {
                    if let Some(theirs) = &group.id {
                        self.groups.insert(theirs.clone(), id.clone());
                    }
                    self.mentioned.insert(id.clone());
                    placed.push((group, id));
                }
                Err(error) => {
                    self.findings.error(error);
                    let id = group.id.as_ref().map(GroupId::as_str);
                    self.broken.insert([id, Some(&group.name)]);
                }
            }
        }
        for (group, id) in placed {
            self.rules(group, &id);
        }
    }

    fn group<'b>(
        &mut self,
        group: &'b WantedGroup,
        names: &mut HashMap<String, &'b WantedGroup>,
    ) -> Result<GroupId, Error> {
        let at = group.path.as_str();
        if let Some(other) = names.insert(group.name.to_ascii_lowercase(), group) {
            let name = &group.name;
            let reason = match (other.vpc.as_deref(), group.vpc.as_deref()) {
                (Some(one), Some(two)) if one != two => {
                    format!("group {name} is in the document twice, from {one} and {two}")
                }
                _ => format!("group {name} is in the document twice"),
            };
            return Err(twice(at, reason));
        }
        match self.group_here(group).map_err(Error::at(at))?.cloned() {
            None => self.create_group(group),
            Some(here) => self.change_group(group, &here),
        }
        .map_err(Error::at(at))
    }

    fn group_here(&self, group: &WantedGroup) -> Result<Option<&Group>, ModelError> {
        let by_id = group.id.as_ref().and_then(|id| self.after.groups.get(id));
        match by_id.map(Arc::as_ref) {
            Some(Group { name, id, .. }) if !name.eq_ignore_ascii_case(&group.name) => {
                Err(ModelError::GroupIdTaken { name: name.clone(), id: id.clone() })
            }
            Some(here) => Ok(Some(here)),
            None => Ok(self.after.group_named(&VpcId::default_vpc(), &group.name)),
        }
    }

    fn create_group(&mut self, group: &WantedGroup) -> Result<GroupId, ModelError> {
        let tags = group.tags.clone().unwrap_or_default();
        let vpc = VpcId::default_vpc();
        self.after.check_new_group(&vpc, &group.name, &tags, self.limits)?;
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
                vpc,
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

    fn rules(&mut self, wanted: &WantedGroup, id: &GroupId) {
        let mut specs = Vec::new();
        let mut missing = HashMap::new();
        for rule in &wanted.rules {
            let Some(spec) = self.resolve(rule) else { continue };
            if let Some(warning) = self.after.mismatch(&spec) {
                self.findings.warn(&rule.path, format!("{warning}: the rule matches nothing"));
            }
            if missing.insert(spec.clone(), rule).is_some() {
                self.findings.refuse(&rule.path, ModelError::RuleRepeated(spec));
                continue;
            }
            specs.push((spec, rule));
        }
        let Some(here) = self.after.groups.get(id).cloned() else { return };
        for rule in &here.rules {
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
                Some(wanted) => {
                    if wanted.description != rule.description {
                        let description = wanted.description.clone();
                        let change = Change::DescribeRule {
                            group: id.clone(),
                            rule: rule.id.clone(),
                            description,
                        };
                        let text = with_description(text.clone(), &wanted.description);
                        self.step(change, vec![line(Sign::Change, text)]);
                    }
                    if !is_same_end(wanted.end, rule.end) {
                        let change = Change::SetRuleEnd {
                            group: id.clone(),
                            rule: rule.id.clone(),
                            end: wanted.end,
                        };
                        let text = match wanted.end {
                            None => format!("{text} without an end"),
                            end => with_end(text, end),
                        };
                        self.step(change, vec![line(Sign::Change, text)]);
                    }
                }
            }
        }
        // In the order of the document, so that the numbers follow it.
        for (spec, rule) in specs {
            if !missing.contains_key(&spec) {
                continue;
            }
            let text = with_description(self.after.spec_text(&spec), &rule.description);
            let text = with_end(text, rule.end);
            let random = RuleId::random().map_err(Error::at(&rule.path));
            let Some(rule_id) = self.findings.ok(random) else { return };
            let (description, end) = (rule.description.clone(), rule.end);
            let tags = BTreeMap::new();
            let rule = Rule { id: rule_id, number: 0, spec, description, end, tags };
            let line = Line {
                sign: Sign::Add,
                object: here.name.clone(),
                id: Some(rule.id.to_string()),
                is_generated: true,
                text,
            };
            self.step(Change::AddRule { group: id.clone(), rule }, vec![line]);
        }
    }

    /// The rule, with its peer by the ids of this host; `None` if there is no such peer.
    fn resolve(&mut self, rule: &WantedRule) -> Option<RuleSpec> {
        let peer = match &rule.peer {
            WantedPeer::Network(network) => Ok(Peer::from(*network)),
            WantedPeer::PrefixList(theirs) => {
                let id = self.lists.get(theirs).unwrap_or(theirs);
                if self.after.prefix_lists.contains_key(id) {
                    Ok(Peer::PrefixList(id.clone()))
                } else {
                    Err((theirs.as_str(), unknown_list(&rule.path, id)))
                }
            }
            WantedPeer::GroupId(theirs) => {
                let id = self.groups.get(theirs).unwrap_or(theirs);
                if self.after.groups.contains_key(id) {
                    Ok(Peer::Group(id.clone()))
                } else {
                    Err((theirs.as_str(), unknown_group(rule, id.as_str())))
                }
            }
            WantedPeer::GroupName(name) => {
                match self.after.group_named(&VpcId::default_vpc(), name) {
                    Some(group) => Ok(Peer::Group(group.id.clone())),
                    None => Err((name.as_str(), unknown_group(rule, &format!("{name:?}")))),
                }
            }
        };
        match peer {
            Ok(peer) => Some(RuleSpec { direction: rule.direction, traffic: rule.traffic, peer }),
            Err((word, error)) => {
                // What is wrong with an item of the document is reported there.
                if !self.broken.contains(word) {
                    self.findings.error(error);
                }
                None
            }
        }
    }

    /// The groups of this host that the document does not have, by name.
    fn others(&self) -> Vec<Group> {
        let is_other = |group: &&Arc<Group>| {
            !self.mentioned.contains(&group.id)
                && !self.broken.contains(&group.name)
                && !self.broken.contains(group.id.as_str())
        };
        let others = self.after.groups.values().filter(is_other);
        let mut others: Vec<_> = others.map(|group| group.as_ref().clone()).collect();
        others.sort_by_key(|group| group.name.to_ascii_lowercase());
        others
    }

    /// Removes the groups that the document does not have; returns those that stay.
    fn prune(&mut self) -> Vec<Group> {
        let (kept, going): (Vec<_>, Vec<_>) = self
            .others()
            .into_iter()
            .partition(|group| group.name.eq_ignore_ascii_case(DEFAULT_GROUP));
        let ids: HashSet<_> = going.iter().map(|group| group.id.clone()).collect();
        // The rules of groups that go keep no other one.
        let mut staying = self.after.clone();
        for group in staying.groups.values_mut().filter(|group| ids.contains(&group.id)) {
            Arc::make_mut(group).rules.clear();
        }
        for group in &going {
            let peer = Peer::Group(group.id.clone());
            let of_document = |user: &&Arc<Group>| {
                self.mentioned.contains(&user.id)
                    && user.rules.iter().any(|rule| rule.spec.peer == peer)
            };
            let user = staying.groups.values().find(of_document).map(|user| user.name.clone());
            match (user, staying.check_group_unused(group)) {
                // Its rules may be those that the document adds.
                (Some(user), _) => self.findings.error(Error::Foreign {
                    path: PRUNE.to_owned(),
                    reason: format!(
                        "a rule of group {user} in the document names group {}",
                        group.name
                    ),
                    hint: "add that group to the document, or take the rule out of it",
                }),
                (None, Err(error)) => self.findings.refuse(PRUNE, error),
                (None, Ok(())) => {}
            }
        }
        for group in &going {
            let names_other = |rule: &&Rule| match &rule.spec.peer {
                Peer::Group(peer) => *peer != group.id && ids.contains(peer),
                _ => false,
            };
            for rule in group.rules.iter().filter(names_other) {
                let line = Line {
                    sign: Sign::Remove,
                    object: group.name.clone(),
                    id: Some(rule.id.to_string()),
                    is_generated: false,
                    text: self.after.spec_text(&rule.spec),
                };
                let change = Change::RemoveRule { group: group.id.clone(), rule: rule.id.clone() };
                self.step(change, vec![line]);
            }
        }
        for group in going {
            let line = Line {
                sign: Sign::Remove,
                object: format!("group {}", group.name),
                id: Some(group.id.to_string()),
                is_generated: false,
                text: String::new(),
            };
            self.step(Change::DeleteGroup(group.id), vec![line]);
        }
        kept
    }

    /// Checks the limits of what grew, when all edits are known.
    pub(super) fn finish(
        mut self,
        wanted: &[WantedGroup],
        acls: &[WantedAcl],
        others: Others,
    ) -> Result<Plan, Errors> {
        let grown: HashSet<_> = self
            .steps
            .iter()
            .filter_map(|step| match &step.change {
                Change::AddRule { group, .. } => Some(group),
                _ => None,
            })
            .collect();
        for group in wanted {
            if let Some(here) = self.after.group_named(&VpcId::default_vpc(), &group.name)
                && grown.contains(&here.id)
            {
                let specs = here.rules.iter().map(|rule| &rule.spec);
                let count = self.after.check_count(&here.name, specs, self.limits);
                self.findings.ok(count.map_err(Error::at(&group.path)));
            }
        }
        for (path, list) in &self.grown {
            let count = self.after.check_referring_groups(list, self.limits);
            self.findings.ok(count.map_err(Error::at(path)));
        }
        let kept = match others {
            Others::Go if wanted.is_empty() && acls.is_empty() => {
                self.findings.error(Error::NothingStays);
                Vec::new()
            }
            // A document without groups says nothing about them.
            Others::Stay | Others::Go if wanted.is_empty() => Vec::new(),
            Others::Stay => self.others(),
            Others::Go => self.prune(),
        };
        let mut names: Vec<_> = kept.into_iter().map(|group| group.name).collect();
        match others {
            // Neither does one without network ACLs.
            Others::Stay | Others::Go if acls.is_empty() => {}
            Others::Stay => {
                let others = self.other_acls().into_iter();
                names.extend(others.map(|acl| format!("network ACL {}", acl.name)));
            }
            Others::Go => self.prune_acls(),
        }
        let Findings { errors, warnings } = mem::take(&mut self.findings);
        if errors.is_empty() {
            Ok(Plan { steps: self.steps, warnings, others: names })
        } else {
            Err(errors)
        }
    }
}

/// In place of a place in the document.
const PRUNE: &str = "--prune";

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

/// Whether two ends are the same, as documents have them.
fn is_same_end(one: Option<End>, other: Option<End>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_in_the_second_of(other),
        _ => false,
    }
}

fn with_end(text: String, end: Option<End>) -> String {
    end.map_or_else(|| text.clone(), |end| format!("{text} until {}", end.text()))
}

fn twice(path: &str, reason: String) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        reason,
        hint: "names are unique on this host, ignoring case: apply one of the two",
    }
}

fn unknown_list(path: &str, list: &PrefixListId) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        reason: format!("prefix list {list} is neither on this host nor in the document"),
        hint: "add it to the document's PrefixLists, with its Entries",
    }
}

fn unknown_group(rule: &WantedRule, group: &str) -> Error {
    Error::Foreign {
        path: rule.path.clone(),
        reason: format!("group {group} is neither on this host nor in the document"),
        hint: "add it to the document, or create it first",
    }
}
