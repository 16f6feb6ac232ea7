//! Reading rules.

use std::collections::BTreeSet;

use firewall_ec2::filter::{Filters, Pattern};
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use super::rule_ids;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::rules as view;
use crate::model::{self, Group, GroupId, Rule, RuleId};

const FILTERS: &[&str] = &["group-id", "security-group-rule-id", "tag"];

pub(super) fn describe_security_group_rules(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let ids: BTreeSet<RuleId> =
        rule_ids(params.texts("SecurityGroupRuleId")?)?.into_iter().collect();
    let filters = Filters::parse(params, FILTERS)?;
    check_group_ids(&filters)?;
    let page = Page::parse(params, 5..=1000)?;
    let model = call.read()?;

    let is_named = |rule: &Rule| ids.is_empty() || ids.contains(&rule.id);
    let mut rules: Vec<(&Group, &Rule)> = model
        .groups_by_id()
        .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
        .filter(|(_, rule)| is_named(rule))
        .collect();
    let found: BTreeSet<&RuleId> = rules.iter().map(|(_, rule)| &rule.id).collect();
    if let Some(missing) = ids.iter().find(|id| !found.contains(id)) {
        return Err(of_model(&model::Error::RuleUnknown(missing.clone())));
    }
    rules.retain(|(group, rule)| {
        filters.matches(&rule.tags, |name| match name {
            "group-id" => vec![group.id.as_str().into()],
            "security-group-rule-id" => vec![rule.id.as_str().into()],
            _ => Vec::new(),
        })
    });
    // Those of a group in the order of their creation.
    rules.sort_by_key(|(group, rule)| (&group.id, rule.number));
    let (rules, next) =
        page.cut(rules, |(group, rule)| format!("{}/{:010}", group.id, rule.number));
    let mut xml = Xml::new();
    xml.list("securityGroupRuleSet", rules, |xml, (group, rule)| {
        view::rule(xml, group, rule, call.identity());
    });
    xml.option("nextToken", next);
    Ok(xml)
}

/// Refuses ids of groups that are malformed, as EC2 does for this action only.
fn check_group_ids(filters: &Filters) -> Result<(), Error> {
    let groups = filters.iter().filter(|filter| filter.name == "group-id");
    let bad = groups
        .flat_map(|filter| filter.values.iter().map(Pattern::text))
        .find(|value| !value.contains(['*', '?']) && value.parse::<GroupId>().is_err());
    bad.map_or(Ok(()), |value| {
        let text = format!("The security group ID '{value}' is malformed");
        Err(Error::new("InvalidGroupId.Malformed", text))
    })
}
