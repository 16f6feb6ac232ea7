//! The rules of a group: compared with those of a document by what they allow.

use std::collections::HashMap;

use super::{
    Line, Planner, Sign, is_same_end, unknown_group, unknown_list, with_description, with_end,
};
use crate::model::document::{Error, WantedGroup, WantedPeer, WantedRule};
use crate::model::{
    Change, Error as ModelError, ForeignGroup, GroupId, Peer, Rule, RuleId, RuleSpec, VpcId, check,
};

impl Planner<'_> {
    pub(super) fn rules(&mut self, wanted: &WantedGroup, id: &GroupId) {
        let Some(here) = self.after.groups.get(id).cloned() else { return };
        let vpc = here.vpc.clone();
        let mut specs = Vec::new();
        let mut missing = HashMap::new();
        for rule in &wanted.rules {
            let Some(spec) = self.resolve(rule, &vpc) else { continue };
            if let Peer::Foreign(_) = &spec.peer {
                self.foreign += 1;
                let peer = self.after.peer_text(&spec.peer);
                self.findings.warn(&rule.path, format!("{peer}: the rule matches nothing"));
            }
            if let Some(warning) = self.after.mismatch(&spec) {
                self.findings.warn(&rule.path, format!("{warning}: the rule matches nothing"));
            }
            if missing.insert(spec.clone(), rule).is_some() {
                self.findings.refuse(&rule.path, ModelError::RuleRepeated(spec));
                continue;
            }
            specs.push((spec, rule));
        }
        let label = self.after.group_label(&here);
        for rule in &here.rules {
            let line = |sign, text| Line {
                sign,
                object: label.clone(),
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
                    if let Some(tags) = wanted.tags.as_ref().filter(|tags| **tags != rule.tags) {
                        let checked =
                            check::check_tags(&format!("rule {}", rule.id), tags, self.limits);
                        self.findings.ok(checked.map_err(Error::at(&wanted.path)));
                        let (group, rule) = (id.clone(), rule.id.clone());
                        let line = line(Sign::Change, format!("{text} tags"));
                        self.step(Change::TagRule { group, rule, tags: tags.clone() }, vec![line]);
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
            let Some((rule_id, is_generated)) = self.new_rule_id(rule) else { return };
            let (description, end) = (rule.description.clone(), rule.end);
            let tags = rule.tags.clone().unwrap_or_default();
            let checked = check::check_tags(&format!("rule {rule_id}"), &tags, self.limits);
            self.findings.ok(checked.map_err(Error::at(&rule.path)));
            let rule = Rule { id: rule_id, number: 0, spec, description, end, tags };
            self.add_rule(id, rule, is_generated);
        }
    }

    /// The step that adds a rule.
    pub(super) fn add_rule(&mut self, group: &GroupId, rule: Rule, is_generated: bool) {
        let label = self.after.group_by_id(group).map(|group| self.after.group_label(group));
        let text = with_description(self.after.spec_text(&rule.spec), &rule.description);
        let line = Line {
            sign: Sign::Add,
            object: label.unwrap_or_default(),
            id: Some(rule.id.to_string()),
            is_generated,
            text: with_end(text, rule.end),
        };
        self.step(Change::AddRule { group: group.clone(), rule }, vec![line]);
    }

    /// The id of a new rule: that of the document, unless it has none or another rule of this host has it.
    /// Also whether it was generated.
    fn new_rule_id(&mut self, rule: &WantedRule) -> Option<(RuleId, bool)> {
        match &rule.id {
            Some(id) if self.rule_ids.insert(id.clone()) => Some((id.clone(), false)),
            _ => {
                let random = RuleId::random().map_err(Error::at(&rule.path));
                self.findings.ok(random).map(|id| (id, true))
            }
        }
    }

    /// The rule, with its peer by the ids of this host; `None` if there is no such peer.
    fn resolve(&mut self, rule: &WantedRule, vpc: &VpcId) -> Option<RuleSpec> {
        let peer = match &rule.peer {
            WantedPeer::Network(network) => Peer::from(*network),
            WantedPeer::PrefixList(theirs) => {
                let id = self.lists.get(theirs).unwrap_or(theirs);
                if !self.after.prefix_lists.contains_key(id) {
                    self.unknown(theirs.as_str(), unknown_list(&rule.path, id));
                    return None;
                }
                Peer::PrefixList(id.clone())
            }
            WantedPeer::Group(theirs) => self.resolve_group(theirs, vpc)?,
            WantedPeer::GroupName(name) => match self.after.group_named(vpc, name) {
                Some(group) => Peer::Group(group.id.clone()),
                None => {
                    self.unknown(name, unknown_group(rule, name));
                    return None;
                }
            },
        };
        Some(RuleSpec { direction: rule.direction, traffic: rule.traffic, peer })
    }

    /// A group of the document, or of this host; as in EC2, the rule stays also where it is neither.
    /// `vpc`: that of the group with the rule.
    fn resolve_group(&self, theirs: &ForeignGroup, vpc: &VpcId) -> Option<Peer> {
        let id = self.groups.get(&theirs.group).unwrap_or(&theirs.group);
        if self.after.groups.contains_key(id) {
            return Some(Peer::Group(id.clone()));
        }
        // What is wrong with an item of the document is reported there.
        let is_broken = self.broken.contains(theirs.group.as_str());
        let foreign = || {
            let mut foreign = theirs.clone();
            // A document has no VPC of a peer where it is that of the group.
            foreign.vpc.take_if(|of_peer| of_peer == vpc);
            Peer::Foreign(Box::new(foreign))
        };
        (!is_broken).then(foreign)
    }

    /// Keeps an error about an unknown name, unless it is that of an item of the document with an error of its
    /// own.
    fn unknown(&mut self, word: &str, error: Error) {
        if !self.broken.contains(word) {
            self.findings.error(error);
        }
    }
}
