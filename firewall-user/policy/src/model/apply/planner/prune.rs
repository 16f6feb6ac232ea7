//! The groups of this host that a document does not have.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::DEFAULT_GROUP;
use super::{Line, PRUNE, Planner, Sign};
use crate::model::document::Error;
use crate::model::{Change, Group, Peer, Rule};

impl Planner<'_> {
    /// The groups of this host that the document does not have, by name: of the VPCs that it has groups of, and
    /// without the default groups, which stay as they are.
    pub(super) fn others(&self) -> Vec<Group> {
        let is_other = |group: &&Arc<Group>| {
            self.group_vpcs.contains(&group.vpc)
                && !group.name.eq_ignore_ascii_case(DEFAULT_GROUP)
                && !self.mentioned.contains_key(&group.id)
                && !self.broken.contains(&group.name)
                && !self.broken.contains(group.id.as_str())
        };
        let others = self.after.groups.values().filter(is_other);
        let mut others: Vec<_> = others.map(|group| group.as_ref().clone()).collect();
        others.sort_by_key(|group| group.name.to_ascii_lowercase());
        others
    }

    /// Removes the groups that the document does not have.
    pub(super) fn prune(&mut self) {
        let going = self.others();
        let ids: HashSet<_> = going.iter().map(|group| group.id.clone()).collect();
        // The rules of groups that go keep no other one.
        let mut staying = self.after.clone();
        for group in staying.groups.values_mut().filter(|group| ids.contains(&group.id)) {
            Arc::make_mut(group).rules.clear();
        }
        for group in &going {
            let peer = Peer::Group(group.id.clone());
            let of_document = |user: &&Arc<Group>| {
                self.mentioned.contains_key(&user.id)
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
                    object: self.after.group_label(group),
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
                object: format!("group {}", self.after.group_label(&group)),
                id: Some(group.id.to_string()),
                is_generated: false,
                text: String::new(),
            };
            self.step(Change::DeleteGroup(group.id), vec![line]);
        }
    }
}
