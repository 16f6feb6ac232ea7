//! Groups: compared with a document by id, then by name in their VPC.

use std::collections::HashSet;

use super::super::DEFAULT_GROUP;
use super::{Line, Planner, Sign, of_other_vpc, tags_line, twice};
use crate::model::document::{Error, WantedGroup};
use crate::model::{Change, Error as ModelError, Group, GroupId, RuleId, VpcId, check};

impl Planner<'_> {
    /// Groups, then their rules, which may refer to any group of the document.
    pub(super) fn groups(&mut self, wanted: &[WantedGroup]) {
        let mut names = HashSet::new();
        let mut placed = Vec::new();
        for group in wanted {
            match self.group(group, &mut names) {
                Ok(id) => {
                    if let Some(theirs) = &group.id {
                        self.groups.insert(theirs.clone(), id.clone());
                    }
                    self.mentioned.insert(id.clone(), group.path.clone());
                    placed.push((group, id));
                }
                Err(error) => {
                    self.findings.error(error);
                    let id = group.id.as_ref().map(GroupId::as_str);
                    self.broken.insert([id, Some(&group.name)]);
                }
            }
        }
        if wanted.iter().flat_map(|group| &group.rules).any(|rule| rule.id.is_some()) {
            let rules = self.after.groups_by_id().flat_map(|group| &group.rules);
            let staged = self.after.staged.keys().cloned();
            self.rule_ids =
                rules.map(|rule| rule.id.clone()).chain(staged).collect::<HashSet<RuleId>>();
        }
        for (group, id) in placed {
            self.rules(group, &id);
        }
    }

    fn group(
        &mut self,
        group: &WantedGroup,
        names: &mut HashSet<(VpcId, String)>,
    ) -> Result<GroupId, Error> {
        let at = group.path.as_str();
        let vpc = self.vpc_here(group.vpc.as_ref());
        if !names.insert((vpc.clone(), group.name.to_ascii_lowercase())) {
            return Err(twice(at, format!("group {} is in the document twice", group.name)));
        }
        self.group_vpcs.insert(vpc.clone());
        match self.group_here(group, &vpc)?.cloned() {
            None => self.create_group(group, vpc),
            Some(here) => {
                self.warn_of_other_id(group, &here);
                self.change_group(group, &here)
            }
        }
        .map_err(Error::at(at))
    }

    fn group_here(&self, group: &WantedGroup, vpc: &VpcId) -> Result<Option<&Group>, Error> {
        let by_id = group.id.as_ref().and_then(|id| self.after.group_by_id(id).ok());
        match by_id {
            Some(Group { name, id, .. }) if !name.eq_ignore_ascii_case(&group.name) => {
                let error = ModelError::GroupIdTaken { name: name.clone(), id: id.clone() };
                Err(Error::at(&group.path)(error))
            }
            Some(here) if here.vpc != *vpc => {
                let object = format!("group {}", here.id);
                Err(of_other_vpc(&group.path, &object, &here.vpc, vpc))
            }
            Some(here) => Ok(Some(here)),
            None => Ok(self.after.group_named(vpc, &group.name)),
        }
    }

    /// Says which groups of this host become those of another host's VPC.
    fn warn_of_other_id(&mut self, wanted: &WantedGroup, here: &Group) {
        let is_of_other = wanted.vpc.as_ref().is_some_and(|vpc| self.replaced.contains(vpc));
        if let Some(id) = wanted.id.as_ref().filter(|id| **id != here.id)
            && is_of_other
            && here.name != DEFAULT_GROUP
        {
            let text = format!(
                "group {} is {} on this host, not {id}: it is found by its name",
                here.name, here.id
            );
            self.findings.warn(&wanted.path, text);
        }
    }

    fn create_group(&mut self, group: &WantedGroup, vpc: VpcId) -> Result<GroupId, ModelError> {
        let tags = group.tags.clone().unwrap_or_default();
        self.after.check_new_group(&vpc, &group.name, &tags, self.limits)?;
        let id = group.id.clone().map_or_else(GroupId::random, Ok)?;
        let new = Group {
            id,
            vpc,
            name: group.name.clone(),
            description: group.description.clone(),
            rules: Vec::new(),
            tags,
        };
        Ok(self.add_group(new, group.id.is_none()))
    }

    /// The step that creates a group without rules.
    pub(super) fn add_group(&mut self, new: Group, is_generated: bool) -> GroupId {
        let id = new.id.clone();
        let line = Line {
            sign: Sign::Add,
            object: format!("group {}", self.after.group_label(&new)),
            id: Some(id.to_string()),
            is_generated,
            text: String::new(),
        };
        self.step(Change::CreateGroup(new), vec![line]);
        id
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
            let label = self.after.group_label(here);
            self.step(
                Change::TagGroup { group: id.clone(), tags: wanted.clone() },
                vec![tags_line(format!("group {label}"), id.as_str())],
            );
        }
        Ok(id.clone())
    }
}
