//! Staged changes: rules that are to be added, and rules that are to be removed, whose effect is counted before they
//! take effect.
//!
//! They are no part of their group: nothing that compiles, counts or prints the rules of a group sees them. A staged
//! rule gets its number when it is enforced, and keeps its id.

use std::collections::BTreeMap;
use std::sync::Arc;

use firewall_ebpf::abi::policy::MAX_RULE;
use hashbrown::HashSet;

use super::{Error, Group, GroupId, Limits, Model, NewRule, Rule, RuleId, RuleSpec};

/// A staged change of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The group that it is to change.
    pub group: GroupId,
    /// When it was staged: milliseconds since 1970, UTC.
    pub created: i64,
    /// The change.
    pub change: StagedChange,
}

/// What a staged change does once it is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StagedChange {
    /// It adds a rule with the id of the staged change.
    Add {
        /// What the rule allows.
        spec: RuleSpec,
        /// Free text, may be empty.
        description: String,
    },
    /// It removes the rule with this id.
    Remove,
}

impl Model {
    /// The staged changes of a group, in the order of their ids.
    pub fn staged_of(&self, group: &GroupId) -> impl Iterator<Item = (&RuleId, &Staged)> {
        self.staged.iter().filter(move |(_, staged)| staged.group == *group)
    }

    /// A staged change of a group by its id.
    ///
    /// # Errors
    /// The group has none with this id.
    pub fn staged_change(&self, group: &Group, id: &RuleId) -> Result<&Staged, Error> {
        let staged = self.staged.get(id).filter(|staged| staged.group == group.id);
        let missing = || Error::StagedNotFound { group: group.name.clone(), rule: id.clone() };
        staged.ok_or_else(missing)
    }

    /// The specifications of the rules that a group would have if its staged changes were enforced.
    pub fn staged_specs(&self, group: &Group) -> impl Iterator<Item = &RuleSpec> {
        let added = self.staged_of(&group.id).filter_map(|(_, staged)| match &staged.change {
            StagedChange::Add { spec, .. } => Some(spec),
            StagedChange::Remove => None,
        });
        let kept = self.groups.get(&group.id).into_iter().flat_map(|group| &group.rules);
        let kept = kept.filter(|rule| !self.staged.contains_key(&rule.id));
        kept.map(|rule| &rule.spec).chain(added)
    }

    /// Checks that these rules may be staged for a group: they could be enforced with what is staged already.
    ///
    /// # Errors
    /// The group has one of them, also staged, one is repeated, a peer does not exist, or a limit is exceeded.
    pub fn check_staged_rules(
        &self,
        group: &Group,
        new: &[NewRule],
        limits: &Limits,
    ) -> Result<(), Error> {
        let mut seen = HashSet::new();
        for NewRule { spec, .. } in new {
            self.check_peer(&spec.peer)?;
            if let Ok(rule) = group.rule_with(spec) {
                let (group, rule) = (group.name.clone(), rule.id.clone());
                let ends = false;
                return Err(Error::RuleDuplicate { group, rule, spec: spec.clone(), ends });
            }
            if let Some(rule) = self.staged_rule_with(group, spec) {
                let (group, rule) = (group.name.clone(), rule.clone());
                return Err(Error::StagedDuplicate { group, rule, spec: spec.clone() });
            }
            if !seen.insert(spec) {
                return Err(Error::RuleRepeated(spec.clone()));
            }
        }
        let specs = self.staged_specs(group).chain(new.iter().map(|rule| &rule.spec));
        self.check_count(&group.name, specs, limits)
    }

    /// The staged rule of a group with this specification.
    #[must_use]
    pub fn staged_rule_with(&self, group: &Group, spec: &RuleSpec) -> Option<&RuleId> {
        let has = |staged: &Staged| matches!(&staged.change, StagedChange::Add { spec: here, .. } if here == spec);
        self.staged_of(&group.id).find(|(_, staged)| has(staged)).map(|(id, _)| id)
    }

    /// The model with the staged changes of a group, or of all groups, enforced. The rules that they add have numbers
    /// that no rule of the store has, descending in the order of their ids.
    #[must_use]
    pub fn with_staged(&self, group: Option<&GroupId>) -> Self {
        let mut model = self.clone();
        // The highest one is that of the management networks.
        let mut number = MAX_RULE;
        for (id, Staged { group: of, change, created: _ }) in &self.staged {
            if group.is_some_and(|group| group != of) {
                continue;
            }
            model.staged.remove(id);
            let Some(rules) = model.groups.get_mut(of).map(|group| &mut Arc::make_mut(group).rules)
            else {
                continue;
            };
            match change {
                StagedChange::Remove => rules.retain(|rule| rule.id != *id),
                StagedChange::Add { spec, description } => {
                    number -= 1;
                    let (spec, description) = (spec.clone(), description.clone());
                    let (id, end, tags) = (id.clone(), None, BTreeMap::new());
                    // What was added meanwhile is not there twice.
                    if rules.iter().all(|rule| rule.spec != spec) {
                        rules.push(Rule { id, number, spec, description, end, tags });
                    }
                }
            }
        }
        model
    }
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::interface::Direction;

    use super::*;
    use crate::model::{Change, Peer, PortRange, Traffic, VpcId, parse_cidr};

    fn spec(port: u16, cidr: &str) -> RuleSpec {
        let traffic = Traffic::Tcp(PortRange { from: port, to: port });
        let peer = Peer::from(parse_cidr(cidr).unwrap());
        RuleSpec { direction: Direction::Ingress, traffic, peer }
    }

    fn id(digit: u8) -> RuleId {
        format!("sgr-0000000{digit}").parse().unwrap()
    }

    /// A group with the rules 1 and 2.
    fn model() -> (Model, Group) {
        let rule = |number: u8| Rule {
            id: id(number),
            number: number.into(),
            spec: spec(number.into(), "10.0.0.0/8"),
            description: String::new(),
            end: None,
            tags: BTreeMap::new(),
        };
        let group = Group {
            id: GroupId::random().unwrap(),
            vpc: VpcId::default_vpc(),
            name: "web".to_owned(),
            description: "web".to_owned(),
            rules: vec![rule(1), rule(2)],
            tags: BTreeMap::new(),
        };
        let mut model = Model::default();
        model.make(Change::CreateGroup(group.clone()));
        (model, group)
    }

    fn stage(model: &mut Model, group: &Group, rule: RuleId, change: StagedChange) {
        let staged = Staged { group: group.id.clone(), created: 0, change };
        model.make(Change::Stage { rule, staged });
    }

    #[test]
    fn staged_changes_are_no_part_of_the_group() {
        let (mut model, group) = model();
        let added = StagedChange::Add { spec: spec(80, "::/0"), description: String::new() };
        stage(&mut model, &group, id(7), added);
        stage(&mut model, &group, id(1), StagedChange::Remove);
        assert_eq!(*model.groups[&group.id], group);
        let enforced = model.with_staged(None);
        let rules = &enforced.groups[&group.id].rules;
        let numbers: Vec<_> = rules.iter().map(|rule| (rule.id.clone(), rule.number)).collect();
        assert_eq!(numbers, [(id(2), 2), (id(7), MAX_RULE - 1)]);
        assert!(enforced.staged.is_empty());
        let ports: Vec<_> = model.staged_specs(&group).map(ToString::to_string).collect();
        assert_eq!(ports, ["ingress tcp 2 from 10.0.0.0/8", "ingress tcp 80 from ::/0"]);
        let other = GroupId::random().unwrap();
        assert_eq!(model.with_staged(Some(&other)), model);
    }

    #[test]
    fn a_staged_change_goes_with_its_rule_and_its_group() {
        let (mut model, group) = model();
        let added = StagedChange::Add { spec: spec(80, "::/0"), description: String::new() };
        stage(&mut model, &group, id(7), added);
        stage(&mut model, &group, id(1), StagedChange::Remove);
        model.make(Change::RemoveRule { group: group.id.clone(), rule: id(1) });
        assert_eq!(model.staged.keys().collect::<Vec<_>>(), [&id(7)]);
        model.make(Change::DeleteGroup(group.id.clone()));
        assert!(model.staged.is_empty());
    }

    #[test]
    fn what_could_not_be_enforced_is_not_staged() {
        let (mut model, group) = model();
        let limits = Limits { rules_per_group: 3, ..Limits::default() };
        let new = |port| NewRule::new(spec(port, "10.0.0.0/8"), "").unwrap();
        let check = |model: &Model, new: &[NewRule]| model.check_staged_rules(&group, new, &limits);
        assert!(matches!(check(&model, &[new(1)]), Err(Error::RuleDuplicate { .. })));
        assert!(matches!(check(&model, &[new(3), new(3)]), Err(Error::RuleRepeated(_))));
        assert!(matches!(
            check(&model, &[new(3), new(4)]),
            Err(Error::RulesLimit { count: 4, .. })
        ));
        // A rule that is to be removed makes room for one.
        stage(&mut model, &group, id(1), StagedChange::Remove);
        assert_eq!(check(&model, &[new(3), new(4)]), Ok(()));
        let added = StagedChange::Add { spec: spec(3, "10.0.0.0/8"), description: String::new() };
        stage(&mut model, &group, id(7), added);
        assert!(matches!(check(&model, &[new(3)]), Err(Error::StagedDuplicate { .. })));
    }
}
