//! VPCs, subnets and route tables.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};
use ipnet::IpNet;

use super::{Action, done};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::vpcs as view;
use crate::model::{self, Vpc, VpcId, parse_cidr};

mod change;
mod cidrs;
mod route_tables;
mod subnets;
#[cfg(test)]
mod tests;

pub(super) const ACTIONS: &[Action] = &[
    Action::changing("CreateVpc", change::create),
    Action::changing("DeleteVpc", change::delete),
    Action::reading("DescribeVpcs", describe),
    Action::reading("DescribeVpcAttribute", describe_attribute),
    Action::changing("ModifyVpcAttribute", change::modify_attribute),
    Action::changing("AssociateVpcCidrBlock", cidrs::associate_vpc),
    Action::changing("DisassociateVpcCidrBlock", cidrs::disassociate_vpc),
    Action::changing("CreateSubnet", subnets::create),
    Action::changing("DeleteSubnet", subnets::delete),
    Action::reading("DescribeSubnets", subnets::describe),
    Action::changing("ModifySubnetAttribute", subnets::modify_attribute),
    Action::changing("AssociateSubnetCidrBlock", cidrs::associate_subnet),
    Action::changing("DisassociateSubnetCidrBlock", cidrs::disassociate_subnet),
    Action::reading("DescribeRouteTables", route_tables::describe),
];

/// The filters of `DescribeVpcs`; `isDefault` is an older name that clients still use.
const FILTERS: [&str; 14] = [
    "cidr",
    "cidr-block-association.cidr-block",
    "cidr-block-association.association-id",
    "cidr-block-association.state",
    "dhcp-options-id",
    "ipv6-cidr-block-association.ipv6-cidr-block",
    "ipv6-cidr-block-association.ipv6-pool",
    "ipv6-cidr-block-association.association-id",
    "ipv6-cidr-block-association.state",
    "is-default",
    "isDefault",
    "owner-id",
    "state",
    "vpc-id",
];

fn describe(call: &Call<'_>) -> Result<Xml, Error> {
    let ids: BTreeSet<VpcId> = call.ids("VpcId")?;
    let filters = Filters::parse(call.params, &[&FILTERS[..], &["tag", "tag-value"]].concat())?;
    let page = Page::parse(call.params, 5..=1000)?;
    let model = call.read()?;
    let identity = call.identity();
    let all = model.vpcs.values().filter(|vpc| ids.is_empty() || ids.contains(&vpc.id));
    let mut vpcs: Vec<_> = all.collect();
    if let Some(missing) = ids.iter().find(|id| !model.vpcs.contains_key(id)) {
        return Err(of_model(&model::Error::VpcNotFound(missing.to_string())));
    }
    vpcs.retain(|vpc| filters.matches(&vpc.tags, |name| values(&identity.account, vpc, name)));
    let (vpcs, next) = page.cut(vpcs, |vpc| vpc.id.to_string());
    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("vpcSet", vpcs, |xml, vpc| view::vpc(xml, identity, vpc));
    Ok(xml)
}

fn values<'a>(account: &'a str, vpc: &'a Vpc, name: &str) -> Vec<Cow<'a, str>> {
    let settings = &vpc.settings;
    let v4 = || settings.cidrs.iter();
    let v6 = || settings.ipv6_cidrs.iter();
    let association = |network: IpNet| view::vpc_association(&vpc.id, &network).into();
    match name {
        "cidr" => v4().take(1).map(|network| network.to_string().into()).collect(),
        "cidr-block-association.cidr-block" => v4().map(|it| it.to_string().into()).collect(),
        "cidr-block-association.association-id" => {
            v4().map(|it| association((*it).into())).collect()
        }
        "cidr-block-association.state" => v4().map(|_| view::ASSOCIATED.into()).collect(),
        "dhcp-options-id" => vec![view::DHCP_OPTIONS.into()],
        "ipv6-cidr-block-association.ipv6-cidr-block" => {
            v6().map(|network| network.to_string().into()).collect()
        }
        "ipv6-cidr-block-association.ipv6-pool" => v6().map(|_| view::POOL.into()).collect(),
        "ipv6-cidr-block-association.association-id" => {
            v6().map(|it| association((*it).into())).collect()
        }
        "ipv6-cidr-block-association.state" => v6().map(|_| view::ASSOCIATED.into()).collect(),
        "tag-value" => vpc.tags.values().map(|value| value.as_str().into()).collect(),
        "is-default" | "isDefault" => vec![vpc.is_default.to_string().into()],
        "owner-id" => vec![account.into()],
        "state" => vec!["available".into()],
        _ => vec![vpc.id.as_str().into()],
    }
}

fn describe_attribute(call: &Call<'_>) -> Result<Xml, Error> {
    let id: VpcId = call.id("VpcId")?;
    let attribute = call.params.required("Attribute")?;
    let model = call.read()?;
    let vpc = model.vpc_by_id(&id).map_err(|error| of_model(&error))?;
    let value = match attribute {
        "enableDnsHostnames" => vpc.settings.dns_hostnames,
        "enableDnsSupport" => vpc.settings.dns_support,
        "enableNetworkAddressUsageMetrics" => vpc.settings.usage_metrics,
        _ => {
            return Err(Error::invalid(format!(
                "Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
            )));
        }
    };
    let mut xml = Xml::new();
    xml.node(attribute, |xml| xml.text("value", value));
    xml.text("vpcId", &id);
    Ok(xml)
}

/// The network of a parameter, without host bits.
///
/// # Errors
/// It is not a network.
fn network(name: &str, text: &str) -> Result<IpNet, Error> {
    parse_cidr(text).map_err(|_| {
        Error::invalid(format!(
            "Value ({text}) for parameter {name} is invalid. This is not a valid CIDR block."
        ))
    })
}
