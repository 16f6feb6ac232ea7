//! What clients ask about the region, the account and the host, before they ask for anything else.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use super::Action;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::tags;
use crate::model::{Model, VpcId};

mod instances;
mod nothing;
#[cfg(test)]
mod tests;

pub(super) const ACTIONS: &[Action] = &[
    Action::reading("DescribeAccountAttributes", account_attributes),
    Action::reading("DescribeAvailabilityZones", availability_zones),
    Action::reading("DescribeRegions", regions),
    Action::reading("DescribeInstances", instances::describe),
    Action::reading("DescribeVpcClassicLink", classic_link),
    Action::reading("DescribeVpcClassicLinkDnsSupport", classic_link_dns_support),
    Action::reading("DescribeAddresses", nothing::addresses),
    Action::reading("DescribeEgressOnlyInternetGateways", nothing::egress_only_gateways),
    Action::reading("DescribeInternetGateways", nothing::internet_gateways),
    Action::reading("DescribeNatGateways", nothing::nat_gateways),
    Action::reading("DescribeVpcEndpoints", nothing::endpoints),
    Action::reading("DescribeVpcPeeringConnections", nothing::peering_connections),
    Action::reading("DescribeVpnGateways", nothing::vpn_gateways),
];

/// What EC2 says about a zone or region that every account has.
const OPT_IN: &str = "opt-in-not-required";

fn account_attributes(call: &Call<'_>) -> Result<Xml, Error> {
    let limits = call.api().config.limits.in_force();
    let known = [
        ("supported-platforms", "VPC".to_owned()),
        ("default-vpc", VpcId::default_vpc().to_string()),
        // This host, and no Elastic IP address.
        ("max-instances", "1".to_owned()),
        ("vpc-max-security-groups-per-interface", limits.groups_per_interface.to_string()),
        ("max-elastic-ips", "0".to_owned()),
        ("vpc-max-elastic-ips", "0".to_owned()),
    ];
    let wanted = call.params.texts("AttributeName")?;
    if let Some(name) = wanted.iter().find(|name| known.iter().all(|(known, _)| known != *name)) {
        return Err(Error::invalid(format!(
            "Value ({name}) for parameter attributeName is invalid. Unknown attribute."
        )));
    }
    call.read()?;
    let found = known.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    let mut xml = Xml::new();
    xml.list("accountAttributeSet", found, |xml, (name, value)| {
        xml.text("attributeName", name);
        xml.list("attributeValueSet", [value], |xml, value| xml.text("attributeValue", value));
    });
    Ok(xml)
}

fn availability_zones(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let names = params.texts("ZoneName")?;
    let ids = params.texts("ZoneId")?;
    params.flag("AllAvailabilityZones")?;
    let known = [
        "group-long-name",
        "group-name",
        "message",
        "opt-in-status",
        "parent-zone-id",
        "parent-zone-name",
        "region-name",
        "state",
        "zone-id",
        "zone-name",
        "zone-type",
    ];
    let filters = Filters::parse(params, &known)?;
    let model = call.read()?;
    let identity = call.identity();
    let region = identity.region.as_str();
    let zones = zones(call, &model);
    let id = |zone: &str| identity.zone_id(zone);
    let unknown = names
        .iter()
        .find(|name| !zones.contains(**name))
        .or_else(|| ids.iter().find(|wanted| zones.iter().all(|zone| id(zone) != **wanted)));
    if let Some(unknown) = unknown {
        return Err(Error::invalid(format!("Invalid availability zone: [{unknown}]")));
    }
    let none = BTreeMap::new();
    let is_found = |zone: &&String| {
        (names.is_empty() || names.contains(&zone.as_str()))
            && (ids.is_empty() || ids.contains(&&*id(zone)))
            && filters.matches(&none, |name| match name {
                "group-name" | "region-name" => vec![Cow::Borrowed(region)],
                "opt-in-status" => vec![OPT_IN.into()],
                "state" => vec!["available".into()],
                "zone-id" => vec![id(zone).into()],
                "zone-name" => vec![zone.to_string().into()],
                "zone-type" => vec!["availability-zone".into()],
                _ => Vec::new(),
            })
    };
    let mut xml = Xml::new();
    xml.list("availabilityZoneInfo", zones.iter().filter(is_found), |xml, zone| {
        xml.text("optInStatus", OPT_IN);
        xml.empty_list("messageSet");
        xml.text("regionName", region);
        xml.text("zoneName", zone);
        xml.text("zoneId", id(zone));
        xml.text("groupName", region);
        xml.text("networkBorderGroup", region);
        xml.text("zoneType", "availability-zone");
        xml.empty_list("geographySet");
        xml.empty_list("subGeographySet");
        xml.text("zoneState", "available");
    });
    Ok(xml)
}

/// The zones: that of this host, and those that subnets were created with.
fn zones(call: &Call<'_>, model: &Model) -> BTreeSet<String> {
    let of_subnets = model.subnets.values().filter_map(|subnet| subnet.settings.zone.clone());
    of_subnets.chain([call.identity().zone()]).collect()
}

fn regions(call: &Call<'_>) -> Result<Xml, Error> {
    let names = call.params.texts("RegionName")?;
    call.params.flag("AllRegions")?;
    let filters = Filters::parse(call.params, &["endpoint", "opt-in-status", "region-name"])?;
    call.read()?;
    let region = call.identity().region.as_str();
    if let Some(unknown) = names.iter().find(|name| **name != region) {
        return Err(Error::invalid(format!("Invalid region: [{unknown}]")));
    }
    // A name of this host (RFC 6761), so that a client that uses it does not ask AWS.
    let endpoint = format!("ec2.{region}.localhost");
    let is_found = filters.matches(&BTreeMap::new(), |name| match name {
        "endpoint" => vec![Cow::Borrowed(endpoint.as_str())],
        "opt-in-status" => vec![OPT_IN.into()],
        _ => vec![region.into()],
    });
    let mut xml = Xml::new();
    xml.list("regionInfo", is_found.then_some(region), |xml, region| {
        xml.text("optInStatus", OPT_IN);
        xml.empty_list("geographySet");
        xml.text("regionName", region);
        xml.text("regionEndpoint", &endpoint);
    });
    Ok(xml)
}

fn classic_link(call: &Call<'_>) -> Result<Xml, Error> {
    let ids: BTreeSet<VpcId> = call.ids("VpcId")?;
    let filters = Filters::parse(call.params, &["is-classic-link-enabled", "tag"])?;
    let model = call.read()?;
    require_vpcs(&model, &ids)?;
    let vpcs = model.vpcs.values().filter(|vpc| ids.is_empty() || ids.contains(&vpc.id));
    let found = vpcs.filter(|vpc| filters.matches(&vpc.tags, |_| vec!["false".into()]));
    let mut xml = Xml::new();
    xml.list("vpcSet", found, |xml, vpc| {
        xml.text("classicLinkEnabled", false);
        tags::set(xml, &vpc.tags);
        xml.text("vpcId", &vpc.id);
    });
    Ok(xml)
}

fn classic_link_dns_support(call: &Call<'_>) -> Result<Xml, Error> {
    // The service model has the first name, and older clients the other.
    let mut ids: BTreeSet<VpcId> = call.ids("VpcIds")?;
    ids.extend(call.ids::<VpcId>("VpcId")?);
    let page = Page::parse(call.params, 5..=255)?;
    let model = call.read()?;
    require_vpcs(&model, &ids)?;
    let vpcs = model.vpcs.keys().filter(|id| ids.is_empty() || ids.contains(id));
    let (vpcs, next) = page.cut(vpcs.collect(), ToString::to_string);
    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("vpcs", vpcs, |xml, id| {
        xml.text("classicLinkDnsSupported", false);
        xml.text("vpcId", id);
    });
    Ok(xml)
}

fn require_vpcs(model: &Model, ids: &BTreeSet<VpcId>) -> Result<(), Error> {
    let found = ids.iter().try_for_each(|id| model.vpc_by_id(id).map(drop));
    found.map_err(|error| of_model(&error))
}
