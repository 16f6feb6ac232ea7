//! Network ACLs. EC2 associates them with subnets: the interfaces of a subnet have its network ACL, unless the
//! command line has given them one of their own.

use std::borrow::Cow;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use super::{Action, done};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::acls;
use crate::model::{
    Acl, AclEntry, AclId, AssociationId, Ec2Traffic, Identity, Model, Peer, Traffic, VpcId,
};

mod entries;
#[cfg(test)]
mod tests;

pub(super) const ACTIONS: &[Action] = &[
    Action::reading("DescribeNetworkAcls", describe_network_acls),
    Action::changing("CreateNetworkAcl", create_network_acl),
    Action::changing("DeleteNetworkAcl", delete_network_acl),
    Action::changing("CreateNetworkAclEntry", entries::create_network_acl_entry),
    Action::changing("ReplaceNetworkAclEntry", entries::replace_network_acl_entry),
    Action::changing("DeleteNetworkAclEntry", entries::delete_network_acl_entry),
    Action::changing("ReplaceNetworkAclAssociation", replace_network_acl_association),
];

/// The names of filters that EC2 documents.
const FILTERS: &[&str] = &[
    "association.association-id",
    "association.network-acl-id",
    "association.subnet-id",
    "default",
    "entry.cidr",
    "entry.egress",
    "entry.icmp.code",
    "entry.icmp.type",
    "entry.ipv6-cidr",
    "entry.port-range.from",
    "entry.port-range.to",
    "entry.protocol",
    "entry.rule-action",
    "entry.rule-number",
    "network-acl-id",
    "owner-id",
    "tag",
    "vpc-id",
];

fn describe_network_acls(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let wanted = call.ids::<AclId>("NetworkAclId")?;
    let filters = Filters::parse(params, FILTERS)?;
    let page = Page::parse(params, 5..=1000)?;
    let model = &*call.read()?;
    for id in &wanted {
        model.acl_by_id(id).map_err(|error| of_model(&error))?;
    }
    let found: Vec<_> = model
        .acls
        .values()
        .filter(|acl| wanted.is_empty() || wanted.contains(&acl.id))
        .filter(|acl| {
            let values = |name: &str| values(model, call.identity(), acl, name);
            filters.matches(&acl.all_tags(), values)
        })
        .collect();
    let (found, next) = page.cut(found, |acl| acl.id.to_string());
    let mut xml = Xml::new();
    xml.list("networkAclSet", found, |xml, acl| acls::write(xml, model, call.identity(), acl));
    xml.option("nextToken", next);
    Ok(xml)
}

/// The values that a network ACL has for a filter. As in EC2, different entries may match different filters.
fn values<'a>(
    model: &'a Model,
    identity: &'a Identity,
    acl: &'a Acl,
    name: &str,
) -> Vec<Cow<'a, str>> {
    if let Some(name) = name.strip_prefix("entry.") {
        let entries = acls::entries(acl);
        return entries
            .flat_map(|(direction, number, entry)| match name {
                "egress" => vec![(direction.name() == "egress").to_string().into()],
                "rule-number" => vec![number.to_string().into()],
                name => of_entry(entry, name),
            })
            .collect();
    }
    let subnets = || acls::subnets(model, acl);
    match name {
        "association.association-id" => {
            subnets().map(|subnet| subnet.association.as_str().into()).collect()
        }
        "association.network-acl-id" => subnets().map(|_| acl.id.as_str().into()).collect(),
        "association.subnet-id" => subnets().map(|subnet| subnet.id.as_str().into()).collect(),
        "default" => vec![acl.is_default.to_string().into()],
        "network-acl-id" => vec![acl.id.as_str().into()],
        "owner-id" => vec![identity.account.as_str().into()],
        "vpc-id" => vec![acl.vpc.as_str().into()],
        _ => Vec::new(),
    }
}

fn of_entry<'a>(entry: &AclEntry, name: &str) -> Vec<Cow<'a, str>> {
    let AclEntry { action, traffic, peer, .. } = entry;
    let Ec2Traffic { protocol, from, to } = traffic.to_ec2();
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    let is_icmp = matches!(traffic, Traffic::Icmp(_) | Traffic::Icmpv6(_));
    let has_ports = matches!(traffic, Traffic::Tcp(_) | Traffic::Udp(_));
    let value = match (name, peer) {
        ("cidr", Peer::Ipv4(network)) => Some(network.to_string()),
        ("ipv6-cidr", Peer::Ipv6(network)) => Some(network.to_string()),
        ("icmp.type", _) if is_icmp => number(from),
        ("icmp.code", _) if is_icmp => number(to),
        ("port-range.from", _) if has_ports => number(from),
        ("port-range.to", _) if has_ports => number(to),
        // By name or by number.
        ("protocol", _) => return vec![protocol.into(), traffic.protocol_number().into()],
        ("rule-action", _) => Some(action.name().to_owned()),
        _ => None,
    };
    value.into_iter().map(Cow::Owned).collect()
}

fn create_network_acl(call: &Call<'_>) -> Result<Xml, Error> {
    let vpc: VpcId = call.id("VpcId")?;
    let tags = call.tags("network-acl")?.unwrap_or_default();
    let token = call.params.text("ClientToken");
    call.change_once(
        |change| Ok(change.create_tagged_acl(vpc, tags)?.to_string()),
        |model, id| {
            let acl = model.acl_by_id(&id.parse()?)?;
            let mut xml = Xml::new();
            xml.node("networkAcl", |xml| acls::write(xml, model, call.identity(), acl));
            xml.option("clientToken", token);
            Ok(xml)
        },
    )
}

fn delete_network_acl(call: &Call<'_>) -> Result<Xml, Error> {
    let id = required_id(call)?;
    call.change(|change| Ok(change.delete_acl(&id)?))?;
    Ok(done())
}

fn replace_network_acl_association(call: &Call<'_>) -> Result<Xml, Error> {
    let association = call.params.required("AssociationId")?;
    let acl = required_id(call)?;
    let new: AssociationId = call.change(|change| {
        let mut subnets = change.model().subnets.values();
        let subnet = subnets.find(|subnet| subnet.association.as_str() == association);
        let subnet = subnet.ok_or_else(|| {
            let text = format!("The association ID '{association}' does not exist");
            Error::new("InvalidAssociationID.NotFound", text)
        })?;
        let subnet = subnet.id.clone();
        Ok(change.associate_acl(&subnet, &acl)?)
    })?;
    let mut xml = Xml::new();
    xml.text("newAssociationId", new);
    Ok(xml)
}

/// The parameter `NetworkAclId`.
fn required_id(call: &Call<'_>) -> Result<AclId, Error> {
    call.id("NetworkAclId")
}
