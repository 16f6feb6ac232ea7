//! Reading groups.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use super::target::named;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::{groups as view, rules};
use crate::model::{Group, GroupId, Identity, Model, Peer, Rule, VpcId};

/// The bounds of `MaxResults`.
const PAGE: std::ops::RangeInclusive<usize> = 5..=1000;

/// The filters of `DescribeSecurityGroups`. Those of rules also exist with [`EGRESS`] before them.
const FILTERS: &[&str] = &[
    "description",
    "egress.ip-permission.cidr",
    "egress.ip-permission.from-port",
    "egress.ip-permission.group-id",
    "egress.ip-permission.group-name",
    "egress.ip-permission.ipv6-cidr",
    "egress.ip-permission.prefix-list-id",
    "egress.ip-permission.protocol",
    "egress.ip-permission.to-port",
    "egress.ip-permission.user-id",
    "group-id",
    "group-name",
    "ip-permission.cidr",
    "ip-permission.from-port",
    "ip-permission.group-id",
    "ip-permission.group-name",
    "ip-permission.ipv6-cidr",
    "ip-permission.prefix-list-id",
    "ip-permission.protocol",
    "ip-permission.to-port",
    "ip-permission.user-id",
    "owner-id",
    "tag",
    // Not documented any more, and still used.
    "tag-value",
    "vpc-id",
];

/// Before the name of a filter of egress rules.
const EGRESS: &str = "egress.";

/// Before the name of a filter of rules.
const PERMISSION: &str = "ip-permission.";

pub(super) fn describe_security_groups(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let ids = params.texts("GroupId")?.into_iter().map(str::parse);
    let ids = ids.collect::<Result<Vec<GroupId>, _>>().map_err(|error| of_model(&error))?;
    let names = params.texts("GroupName")?;
    let filters = Filters::parse(params, FILTERS)?;
    let page = Page::parse(params, PAGE)?;
    let model = call.read()?;
    let identity = call.identity();

    let mut named_ones: BTreeSet<&GroupId> = BTreeSet::new();
    for id in &ids {
        named_ones.insert(&model.group_by_id(id).map_err(|error| of_model(&error))?.id);
    }
    for name in &names {
        named_ones.insert(&named(&model, name)?.id);
    }
    let is_named = |group: &&Group| named_ones.is_empty() || named_ones.contains(&group.id);
    let is_wanted =
        |group: &&Group| filters.matches(&group.tags, |name| values(&model, identity, group, name));
    let groups: Vec<_> = model.groups_by_id().filter(is_named).filter(is_wanted).collect();
    let (groups, next) = page.cut(groups, |group| group.id.to_string());

    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("securityGroupInfo", groups, |xml, group| view::group(xml, group, identity));
    Ok(xml)
}

/// The values that a group has for a filter.
fn values<'a>(
    model: &'a Model,
    identity: &'a Identity,
    group: &'a Group,
    filter: &str,
) -> Vec<Cow<'a, str>> {
    let (direction, rest) = match filter.strip_prefix(EGRESS) {
        Some(rest) => (Direction::Egress, rest),
        None => (Direction::Ingress, filter),
    };
    if let Some(field) = rest.strip_prefix(PERMISSION) {
        let rules = group.rules.iter().filter(|rule| rule.spec.direction == direction);
        return rules.flat_map(|rule| values_of_rule(model, identity, rule, field)).collect();
    }
    match filter {
        "description" => vec![group.description.as_str().into()],
        "group-id" => vec![group.id.as_str().into()],
        "group-name" => vec![group.name.as_str().into()],
        "owner-id" => vec![identity.account.as_str().into()],
        "tag-value" => group.tags.values().map(|value| value.as_str().into()).collect(),
        "vpc-id" | "primary-vpc-id" => vec![group.vpc.as_str().into()],
        _ => Vec::new(),
    }
}

fn values_of_rule<'a>(
    model: &'a Model,
    identity: &'a Identity,
    rule: &'a Rule,
    field: &str,
) -> Vec<Cow<'a, str>> {
    let number = |number: Option<i64>| number.map(|number| number.to_string().into());
    let traffic = rule.spec.traffic;
    let value: Option<Cow<'a, str>> = match (field, &rule.spec.peer) {
        ("cidr", Peer::Ipv4(network)) => Some(network.to_string().into()),
        ("ipv6-cidr", Peer::Ipv6(network)) => Some(network.to_string().into()),
        ("prefix-list-id", Peer::PrefixList(id)) => Some(id.as_str().into()),
        ("group-id", Peer::Group(id)) => Some(id.as_str().into()),
        ("group-id", Peer::Foreign(foreign)) => Some(foreign.group.as_str().into()),
        ("group-name", Peer::Group(id)) => {
            model.groups.get(id).map(|group| group.name.as_str().into())
        }
        ("user-id", peer) => rules::account(peer, identity).map(Cow::from),
        ("from-port", _) => number(traffic.to_ec2().from),
        ("to-port", _) => number(traffic.to_ec2().to),
        // By name or by number.
        ("protocol", _) => {
            return vec![traffic.protocol().into(), traffic.protocol_number().into()];
        }
        _ => None,
    };
    value.into_iter().collect()
}

pub(super) fn get_security_groups_for_vpc(call: &Call<'_>) -> Result<Xml, Error> {
    const FILTERS: &[&str] =
        &["description", "group-id", "group-name", "owner-id", "primary-vpc-id", "tag"];
    let params = call.params;
    let vpc: VpcId = params.required("VpcId")?.parse().map_err(|error| of_model(&error))?;
    let filters = Filters::parse(params, FILTERS)?;
    let page = Page::parse(params, PAGE)?;
    let model = call.read()?;
    let identity = call.identity();

    model.vpc_by_id(&vpc).map_err(|error| of_model(&error))?;
    let is_wanted = |group: &&Group| {
        group.vpc == vpc
            && filters.matches(&group.tags, |name| values(&model, identity, group, name))
    };
    let groups: Vec<_> = model.groups_by_id().filter(is_wanted).collect();
    let (groups, next) = page.cut(groups, |group| group.id.to_string());

    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("securityGroupForVpcSet", groups, |xml, group| {
        view::group_for_vpc(xml, group, identity);
    });
    Ok(xml)
}
