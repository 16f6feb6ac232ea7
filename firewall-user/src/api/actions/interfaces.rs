//! Network interfaces.

use std::borrow::Cow;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Params, Xml};

use super::{Action, done};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::interfaces::View;
use crate::model::{Attachment, Error as ModelError, InterfaceId, rfc3339};
use crate::observe::instance;

mod addresses;
mod attachment;
mod attributes;
mod create;
#[cfg(test)]
mod tests;

pub(super) const ACTIONS: &[Action] = &[
    Action::reading("DescribeNetworkInterfaces", describe_network_interfaces),
    Action::reading(
        "DescribeNetworkInterfaceAttribute",
        attributes::describe_network_interface_attribute,
    ),
    Action::changing(
        "ModifyNetworkInterfaceAttribute",
        attributes::modify_network_interface_attribute,
    ),
    Action::changing(
        "ResetNetworkInterfaceAttribute",
        attributes::reset_network_interface_attribute,
    ),
    Action::changing("CreateNetworkInterface", create::create_network_interface),
    Action::changing("DeleteNetworkInterface", create::delete_network_interface),
    Action::changing("AttachNetworkInterface", attachment::attach_network_interface),
    Action::changing("DetachNetworkInterface", attachment::detach_network_interface),
    Action::changing("AssignPrivateIpAddresses", addresses::assign_private_ip_addresses),
    Action::changing("UnassignPrivateIpAddresses", addresses::unassign_private_ip_addresses),
    Action::changing("AssignIpv6Addresses", addresses::assign_ipv6_addresses),
    Action::changing("UnassignIpv6Addresses", addresses::unassign_ipv6_addresses),
];

/// The names of filters that EC2 documents. Nothing has an Elastic IP address, a DNS name or a requester here.
const FILTERS: &[&str] = &[
    "addresses.association.owner-id",
    "addresses.association.public-ip",
    "addresses.primary",
    "addresses.private-ip-address",
    "association.allocation-id",
    "association.association-id",
    "association.ip-owner-id",
    "association.public-dns-name",
    "association.public-ip",
    "attachment.attach-time",
    "attachment.attachment-id",
    "attachment.delete-on-termination",
    "attachment.device-index",
    "attachment.instance-id",
    "attachment.instance-owner-id",
    "attachment.status",
    "availability-zone",
    "availability-zone-id",
    "description",
    "group-id",
    "group-name",
    "interface-type",
    "ipv6-addresses.ipv6-address",
    "mac-address",
    "network-interface-id",
    "operator.managed",
    "operator.principal",
    "owner-id",
    "private-dns-name",
    "private-ip-address",
    "requester-id",
    "requester-managed",
    "source-dest-check",
    "status",
    "subnet-id",
    "tag",
    "vpc-id",
];

/// The filters whose values are of the device.
const OF_DEVICE: [&str; 5] = [
    "addresses.primary",
    "addresses.private-ip-address",
    "ipv6-addresses.ipv6-address",
    "mac-address",
    "private-ip-address",
];

fn describe_network_interfaces(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let wanted = call.ids::<InterfaceId>("NetworkInterfaceId")?;
    let filters = Filters::parse(params, FILTERS)?;
    let page = Page::parse(params, 5..=1000)?;
    params.flag("IncludeManagedResources")?;
    if page.is_limited() && !wanted.is_empty() {
        let text = "The parameter NetworkInterfaceId cannot be used with the parameter MaxResults";
        return Err(Error::new("InvalidParameterCombination", text));
    }
    let model = &*call.read()?;
    for id in &wanted {
        model.interface_by_id(id).map_err(|error| of_model(&error))?;
    }
    let mut found: Vec<_> = model
        .network_interfaces()
        .filter(|one| wanted.is_empty() || wanted.contains(&one.id))
        .collect();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    let is_filtered = filters.iter().any(|filter| OF_DEVICE.contains(&filter.name.as_str()));
    let view = |interface| View { model, identity: call.identity(), interface, seen: None };
    let seen = if is_filtered {
        call.api().seen(found.iter().copied())?
    } else {
        // The devices of the page alone are asked.
        found.retain(|one| filters.matches(&one.tags, |name| values(&view(one), name)));
        Default::default()
    };
    found.retain(|one| {
        let view = View { seen: seen.get(&one.slot), ..view(one) };
        filters.matches(&one.tags, |name| values(&view, name))
    });
    let (found, next) = page.cut(found, |one| one.id.to_string());
    let seen = if is_filtered { seen } else { call.api().seen(found.iter().copied())? };
    let mut xml = Xml::new();
    xml.list("networkInterfaceSet", found, |xml, one| {
        View { seen: seen.get(&one.slot), ..view(one) }.write(xml);
    });
    xml.option("nextToken", next);
    Ok(xml)
}

/// The values that an interface has for a filter.
fn values<'a>(view: &View<'a>, name: &str) -> Vec<Cow<'a, str>> {
    let View { model, identity, interface, .. } = *view;
    let one = |text: &'a str| vec![Cow::Borrowed(text)];
    let made = |text: String| vec![Cow::Owned(text)];
    if let Some(of_attachment) = name.strip_prefix("attachment.") {
        let Some(attachment) = &interface.details.attachment else { return Vec::new() };
        let Attachment { id, index, time, delete_on_termination } = attachment;
        return match of_attachment {
            "attach-time" => made(rfc3339(*time)),
            "attachment-id" => one(id.as_str()),
            "delete-on-termination" => made(delete_on_termination.to_string()),
            "device-index" => made(index.to_string()),
            "instance-id" => one(instance::id()),
            "instance-owner-id" => one(&identity.account),
            _ => one("attached"),
        };
    }
    let groups = || interface.groups.iter().filter_map(|id| model.groups.get(id));
    match name {
        "addresses.private-ip-address" | "private-ip-address" => {
            view.addresses(true).into_iter().map(|address| address.to_string().into()).collect()
        }
        "addresses.primary" => {
            let addresses = view.addresses(true);
            (0..addresses.len()).map(|at| (at == 0).to_string().into()).collect()
        }
        "ipv6-addresses.ipv6-address" => {
            view.addresses(false).into_iter().map(|address| address.to_string().into()).collect()
        }
        "availability-zone" => made(view.zone()),
        "availability-zone-id" => made(view.zone_id()),
        "description" => one(&interface.details.description),
        "group-id" => groups().map(|group| group.id.as_str().into()).collect(),
        "group-name" => groups().map(|group| group.name.as_str().into()).collect(),
        "interface-type" => one("interface"),
        "mac-address" => made(view.mac()),
        "network-interface-id" => one(interface.id.as_str()),
        "owner-id" => one(&identity.account),
        "operator.managed" | "requester-managed" => one("false"),
        "source-dest-check" => made(interface.port.source_dest_check.to_string()),
        "status" => one(view.status()),
        "subnet-id" => one(interface.subnet.as_str()),
        "vpc-id" => made(model.vpc_of(interface).to_string()),
        _ => Vec::new(),
    }
}

/// The parameter `NetworkInterfaceId`.
fn required_id(params: &Params) -> Result<InterfaceId, Error> {
    let id = params.required("NetworkInterfaceId")?;
    id.parse().map_err(|error: ModelError| of_model(&error))
}

/// Refuses parameters for which this host has nothing.
fn refuse_unsupported(params: &Params, names: &[&str]) -> Result<(), Error> {
    match names.iter().find(|name| params.has(name)) {
        Some(name) => {
            let text = format!("The parameter {name} is not supported on this host.");
            Err(Error::new("UnsupportedOperation", text))
        }
        None => {
            // Empty ones are absent.
            names.iter().for_each(|name| params.accept(name));
            Ok(())
        }
    }
}
