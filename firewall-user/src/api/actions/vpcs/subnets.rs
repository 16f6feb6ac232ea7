//! Subnets.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use super::change::{ipv4, ipv6};
use super::done;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::vpcs as view;
use crate::model::{self, Identity, Model, Subnet, SubnetId, SubnetSettings, VpcId};

/// The filters of `DescribeSubnets`, and older names of some that clients still use.
const FILTERS: [&str; 29] = [
    "availability-zone",
    "availabilityZone",
    "availability-zone-id",
    "availabilityZoneId",
    "available-ip-address-count",
    "cidr",
    "cidr-block",
    "cidrBlock",
    "customer-owned-ipv4-pool",
    "default-for-az",
    "defaultForAz",
    "enable-dns64",
    "enable-lni-at-device-index",
    "ipv6-cidr-block-association.ipv6-cidr-block",
    "ipv6-cidr-block-association.association-id",
    "ipv6-cidr-block-association.state",
    "ipv6-native",
    "map-customer-owned-ip-on-launch",
    "map-public-ip-on-launch",
    "outpost-arn",
    "owner-id",
    "private-dns-name-options-on-launch.hostname-type",
    "private-dns-name-options-on-launch.enable-resource-name-dns-a-record",
    "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record",
    "state",
    "subnet-arn",
    "subnet-id",
    "tag",
    "vpc-id",
];

/// `CreateSubnet`.
pub(super) fn create(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let vpc: VpcId = call.id("VpcId")?;
    let cidr = ipv4(params, "CidrBlock")?;
    let ipv6_cidr = ipv6(params, "Ipv6CidrBlock")?;
    let is_native = params.flag("Ipv6Native")?.unwrap_or(false);
    if is_native && ipv6_cidr.is_none() {
        let text = "Either 'ipv6CidrBlock' or 'ipv6IpamPoolId' should be provided.";
        return Err(Error::new("MissingParameter", text));
    }
    if is_native && cidr.is_some() {
        let text = "When specifying ipv4 parameters, cidrBlock or ipv4IpamPoolId, you cannot set ipv6Native to true.";
        return Err(Error::new("InvalidParameterCombination", text));
    }
    if cidr.is_none() && !is_native {
        return Err(Error::missing("CidrBlock"));
    }
    let settings = SubnetSettings {
        cidr,
        ipv6_cidr,
        zone: zone(call)?,
        map_public_ip: false,
        assign_ipv6: is_native,
    };
    let tags = call.tags("subnet")?.unwrap_or_default();
    call.change(|change| {
        let id = change.create_subnet(vpc, settings, tags)?;
        let model = change.model();
        let subnet = model.subnet_by_id(&id)?;
        let mut xml = Xml::new();
        xml.node("subnet", |xml| view::subnet(xml, call.identity(), model, subnet));
        Ok(xml)
    })
}

/// The zone that a request names. Zones are names here: every letter is one.
fn zone(call: &Call<'_>) -> Result<Option<String>, Error> {
    let identity = call.identity();
    let zones = (b'a'..=b'z').map(|letter| format!("{}{}", identity.region, char::from(letter)));
    let known: Vec<_> = zones.map(|zone| (identity.zone_id(&zone), zone)).collect();
    for (parameter, is_id) in [("AvailabilityZone", false), ("AvailabilityZoneId", true)] {
        let Some(text) = call.params.text(parameter) else { continue };
        let found = known.iter().find(|(id, name)| text == if is_id { id } else { name });
        let unknown = || {
            Error::invalid(format!(
                "Value ({text}) for parameter {parameter} is invalid. Subnets can be created in the following \
                 availability zones: {}.",
                identity.zone()
            ))
        };
        let (_, name) = found.ok_or_else(unknown)?;
        // The other one of both is another name for it.
        call.params.accept("AvailabilityZoneId");
        return Ok(Some(name.clone()));
    }
    Ok(None)
}

/// `DeleteSubnet`.
pub(super) fn delete(call: &Call<'_>) -> Result<Xml, Error> {
    let id: SubnetId = call.id("SubnetId")?;
    call.change(|change| Ok(change.delete_subnet(&id)?))?;
    Ok(done())
}

/// `ModifySubnetAttribute`.
pub(super) fn modify_attribute(call: &Call<'_>) -> Result<Xml, Error> {
    let id: SubnetId = call.id("SubnetId")?;
    let attribute = |name: &str| match call.params.node(name) {
        Some(node) => node.flag("Value"),
        None => Ok(None),
    };
    let assign_ipv6 = attribute("AssignIpv6AddressOnCreation")?;
    let map_public_ip = attribute("MapPublicIpOnLaunch")?;
    let mut count = [assign_ipv6, map_public_ip].into_iter().flatten().count();
    for name in [
        "EnableDns64",
        "EnableResourceNameDnsARecordOnLaunch",
        "EnableResourceNameDnsAAAARecordOnLaunch",
        "MapCustomerOwnedIpOnLaunch",
    ] {
        let Some(value) = attribute(name)? else { continue };
        count += 1;
        if value {
            return Err(unsupported(name));
        }
    }
    if let Some(kind) = call.params.text("PrivateDnsHostnameTypeOnLaunch") {
        count += 1;
        if kind != "ip-name" {
            return Err(unsupported("PrivateDnsHostnameTypeOnLaunch"));
        }
    }
    match count {
        0 => return Err(Error::missing("Attribute")),
        1 => {}
        _ => {
            let text = "Only one attribute can be modified at a time.";
            return Err(Error::new("InvalidParameterCombination", text));
        }
    }
    call.change(|change| {
        let mut subnet = change.model().subnet_by_id(&id)?.clone();
        let settings = &mut subnet.settings;
        settings.assign_ipv6 = assign_ipv6.unwrap_or(settings.assign_ipv6);
        settings.map_public_ip = map_public_ip.unwrap_or(settings.map_public_ip);
        if assign_ipv6 == Some(true) && settings.ipv6_cidr.is_none() {
            let text = format!(
                "Invalid value 'true' for assignIpv6AddressOnCreation. The subnet '{id}' has no IPv6 CIDR block."
            );
            return Err(Error::invalid(text).into());
        }
        Ok(change.put_subnet(subnet)?)
    })?;
    Ok(done())
}

fn unsupported(name: &str) -> Error {
    Error::new("UnsupportedOperation", format!("The attribute {name} does not exist on this host."))
}

/// `DescribeSubnets`.
pub(super) fn describe(call: &Call<'_>) -> Result<Xml, Error> {
    let ids: BTreeSet<SubnetId> = call.ids("SubnetId")?;
    let filters = Filters::parse(call.params, &FILTERS)?;
    let page = Page::parse(call.params, 5..=1000)?;
    let model = call.read()?;
    let identity = call.identity();
    if let Some(missing) = ids.iter().find(|id| !model.subnets.contains_key(id)) {
        return Err(of_model(&model::Error::SubnetNotFound(missing.to_string())));
    }
    let all = model.subnets.values().filter(|one| ids.is_empty() || ids.contains(&one.id));
    let subnets = all.filter(|subnet| {
        filters.matches(&subnet.tags, |name| values(identity, &model, subnet, name))
    });
    let (subnets, next) = page.cut(subnets.collect(), |subnet| subnet.id.to_string());
    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("subnetSet", subnets, |xml, subnet| view::subnet(xml, identity, &model, subnet));
    Ok(xml)
}

fn values<'a>(
    identity: &'a Identity,
    model: &Model,
    subnet: &'a Subnet,
    name: &str,
) -> Vec<Cow<'a, str>> {
    let settings = &subnet.settings;
    let ipv6 = || settings.ipv6_cidr.iter();
    let one = |text: String| vec![Cow::Owned(text)];
    match name {
        "availability-zone" | "availabilityZone" => one(view::zone(identity, subnet)),
        "availability-zone-id" | "availabilityZoneId" => {
            one(identity.zone_id(&view::zone(identity, subnet)))
        }
        "available-ip-address-count" => one(view::available(model, subnet).to_string()),
        "cidr" | "cidr-block" | "cidrBlock" => {
            settings.cidr.iter().map(|it| it.to_string().into()).collect()
        }
        "default-for-az" | "defaultForAz" => one(subnet.is_default.to_string()),
        "ipv6-cidr-block-association.ipv6-cidr-block" => {
            ipv6().map(|network| network.to_string().into()).collect()
        }
        "ipv6-cidr-block-association.association-id" => {
            ipv6().map(|network| view::subnet_association(&subnet.id, network).into()).collect()
        }
        "ipv6-cidr-block-association.state" => ipv6().map(|_| view::ASSOCIATED.into()).collect(),
        "ipv6-native" => one(settings.cidr.is_none().to_string()),
        "enable-dns64"
        | "map-customer-owned-ip-on-launch"
        | "private-dns-name-options-on-launch.enable-resource-name-dns-a-record"
        | "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record" => {
            vec!["false".into()]
        }
        "private-dns-name-options-on-launch.hostname-type" => vec!["ip-name".into()],
        "map-public-ip-on-launch" => one(settings.map_public_ip.to_string()),
        "owner-id" => vec![identity.account.as_str().into()],
        "state" => vec!["available".into()],
        "subnet-arn" => one(identity.arn("subnet", subnet.id.as_str())),
        "subnet-id" => vec![subnet.id.as_str().into()],
        "vpc-id" => vec![subnet.vpc.as_str().into()],
        // What no subnet has here.
        _ => Vec::new(),
    }
}
