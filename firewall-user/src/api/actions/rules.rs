//! Rules of groups.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::{Error, Params, Xml};

use super::groups::target::Target;
use super::{Action, done};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::rules as view;
use crate::model::{self, Group, NewRule, RuleId, rule_description};
use crate::store::Transaction;
use asked::Asked;

mod asked;
mod describe;
mod descriptions;
mod modify;
mod peer;

pub(super) const ACTIONS: &[Action] = &[
    Action::changing("AuthorizeSecurityGroupIngress", |call| authorize(call, Direction::Ingress)),
    Action::changing("AuthorizeSecurityGroupEgress", |call| authorize(call, Direction::Egress)),
    Action::changing("RevokeSecurityGroupIngress", |call| revoke(call, Direction::Ingress)),
    Action::changing("RevokeSecurityGroupEgress", |call| revoke(call, Direction::Egress)),
    Action::reading("DescribeSecurityGroupRules", describe::describe_security_group_rules),
    Action::changing("ModifySecurityGroupRules", modify::modify_security_group_rules),
    Action::changing("UpdateSecurityGroupRuleDescriptionsIngress", |call| {
        descriptions::update(call, Direction::Ingress)
    }),
    Action::changing("UpdateSecurityGroupRuleDescriptionsEgress", |call| {
        descriptions::update(call, Direction::Egress)
    }),
];

/// The group of an action for one direction: only those of ingress know names.
fn target(params: &Params, direction: Direction) -> Result<Target, Error> {
    match direction {
        Direction::Ingress => Target::parse(params),
        Direction::Egress => Target::parse_id(params),
    }
}

/// The rules that a request names by what they allow: `IpPermissions`, or for ingress the parameters of one rule.
fn asked(params: &Params, direction: Direction) -> Result<Vec<Asked<'_>>, Error> {
    let asked = asked::permissions(params)?;
    match direction {
        Direction::Ingress => asked::or_one_rule(params, asked),
        Direction::Egress => Ok(asked),
    }
}

fn authorize(call: &Call<'_>, direction: Direction) -> Result<Xml, Error> {
    let target = target(call.params, direction)?;
    let asked = asked(call.params, direction)?;
    if asked.is_empty() {
        return Err(match direction {
            Direction::Ingress => Error::new(
                "MissingParameter",
                "Missing source specification: include source security group or CIDR information",
            ),
            Direction::Egress => Error::missing("ipPermissions"),
        });
    }
    let tags = call.tags("security-group-rule")?.unwrap_or_default();
    let (group, rules) = call.change(|change| {
        let model = change.model();
        let group = target.find(model)?;
        // A request may have thousands of rules, and a group too.
        let here = group.rules.iter().filter_map(|rule| Some((peer::of_group(&rule.spec)?, rule)));
        let here: HashMap<_, _> = here.collect();
        let mut seen = HashSet::new();
        let mut new = Vec::new();
        for Asked { traffic, peer, description } in &asked {
            let peer = peer::resolve(model, group, peer, call.identity())?;
            let spec = model::RuleSpec { direction, traffic: *traffic, peer };
            let of_group = peer::of_group(&spec);
            if let Some(rule) = of_group.and_then(|key| here.get(&key)) {
                let (group, rule) = (group.name.clone(), rule.id.clone());
                return Err(model::Error::RuleDuplicate { group, rule, spec, ends: false }.into());
            }
            let of_group = of_group.map(|(_, traffic, group)| (traffic, group.clone()));
            if of_group.is_some_and(|key| !seen.insert(key)) {
                return Err(model::Error::RuleRepeated(spec).into());
            }
            let description = rule_description(description.unwrap_or_default())?;
            new.push(NewRule { spec, description, end: None });
        }
        let id = group.id.clone();
        let ids = change.add_rules_as_in_ec2(&id, new, &tags)?;
        let group = change.model().group_by_id(&id)?;
        let rules = ids.iter().map(|id| group.rule(id).cloned());
        Ok((bare(group), rules.collect::<Result<Vec<_>, _>>()?))
    })?;
    let mut xml = Xml::new();
    xml.text("return", true);
    xml.list("securityGroupRuleSet", &rules, |xml, rule| {
        view::rule(xml, &group, rule, call.identity());
    });
    Ok(xml)
}

/// A group without its rules, for answers about some of them.
fn bare(group: &Group) -> Group {
    let Group { id, vpc, name, description, rules: _, tags } = group;
    Group {
        id: id.clone(),
        vpc: vpc.clone(),
        name: name.clone(),
        description: description.clone(),
        rules: Vec::new(),
        tags: tags.clone(),
    }
}

fn revoke(call: &Call<'_>, direction: Direction) -> Result<Xml, Error> {
    let target = target(call.params, direction)?;
    let ids = rule_ids(call.params.texts("SecurityGroupRuleId")?)?;
    let asked = asked(call.params, direction)?;
    match (asked.is_empty(), ids.is_empty()) {
        (true, true) => {
            return Err(Error::new(
                "MissingParameter",
                "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.",
            ));
        }
        (false, false) => {
            return Err(Error::new(
                "InvalidParameterCombination",
                "Only one of 'ipPermissions' or 'securityGroupRuleIds' can be provided.",
            ));
        }
        _ => {}
    }
    let (group, rules) = call.change(|change| {
        let model = change.model();
        let group = target.find(model)?;
        let mut rules = Vec::new();
        for id in &ids {
            rules.push(by_id(group, id, direction)?.clone());
        }
        for asked in &asked {
            rules.push(peer::find(model, group, direction, asked, call.identity())?.clone());
        }
        require_different(rules.iter().map(|rule| &rule.id))?;
        let group = bare(group);
        let ids: Vec<_> = rules.iter().map(|rule| rule.id.clone()).collect();
        change.remove_rules(&group.id, &ids)?;
        Ok((group, rules))
    })?;
    let mut xml = Xml::new();
    xml.text("return", true);
    // A rule that does not exist is an error here, as in EC2 outside of the default VPC.
    xml.list("unknownIpPermissionSet", [(); 0], |_, ()| {});
    xml.list("revokedSecurityGroupRuleSet", &rules, |xml, rule| view::revoked(xml, &group, rule));
    Ok(xml)
}

/// Ids of rules.
fn rule_ids(texts: Vec<&str>) -> Result<Vec<RuleId>, Error> {
    texts.into_iter().map(|id| id.parse().map_err(|error| of_model(&error))).collect()
}

/// The rule of a group and direction with this id.
fn by_id<'m>(
    group: &'m Group,
    id: &RuleId,
    direction: Direction,
) -> Result<&'m model::Rule, model::Error> {
    let rule = group.rule(id)?;
    if rule.spec.direction == direction {
        return Ok(rule);
    }
    Err(model::Error::RuleNotFound { group: group.name.clone(), rule: id.clone() })
}

/// Refuses rules that are given twice.
fn require_different<'a>(mut ids: impl Iterator<Item = &'a RuleId>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    if ids.all(|id| seen.insert(id)) {
        return Ok(());
    }
    Err(Error::invalid("The same permission must not appear multiple times"))
}

/// Gives a rule a description, or takes it away.
fn describe(
    change: &mut Transaction<'_>,
    group: &Group,
    rule: &RuleId,
    description: Option<&str>,
) -> Result<()> {
    let description = rule_description(description.unwrap_or_default())?;
    Ok(change.describe_rule(&group.id, rule, description)?)
}
