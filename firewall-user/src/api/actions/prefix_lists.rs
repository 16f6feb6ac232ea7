//! Prefix lists.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};
use ipnet::IpNet;

use super::Action;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view;
use crate::model::{self, Entries, Model, Peer, PrefixList, PrefixListId};

mod change;
#[cfg(test)]
mod tests;

pub(super) const ACTIONS: &[Action] = &[
    Action::changing("CreateManagedPrefixList", change::create),
    Action::changing("ModifyManagedPrefixList", change::modify),
    Action::changing("RestoreManagedPrefixListVersion", change::restore),
    Action::changing("DeleteManagedPrefixList", change::delete),
    Action::reading("DescribeManagedPrefixLists", describe_managed),
    Action::reading("GetManagedPrefixListEntries", get_entries),
    Action::reading("GetManagedPrefixListAssociations", get_associations),
    Action::reading("DescribePrefixLists", describe_of_aws),
];

/// The most entries in an answer to a request that gives no number: all that a list of EC2 can have.
const ENTRIES: usize = 1000;

fn describe_managed(call: &Call<'_>) -> Result<Xml, Error> {
    let ids: BTreeSet<PrefixListId> = call.ids("PrefixListId")?;
    let names = ["owner-id", "prefix-list-id", "prefix-list-name", "tag"];
    let filters = Filters::parse(call.params, &names)?;
    let page = Page::parse(call.params, 1..=100)?;
    let model = call.read()?;
    let identity = call.identity();
    let mut lists = of_ids(&model, &ids)?;
    lists.retain(|list| {
        filters.matches(&list.tags, |name| {
            vec![Cow::Borrowed(match name {
                "owner-id" => view::prefix_lists::owner(identity, list),
                "prefix-list-id" => list.id.as_str(),
                _ => &list.name,
            })]
        })
    });
    let (lists, next) = page.cut(lists, |list| list.id.to_string());
    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("prefixListSet", lists, |xml, list| {
        view::prefix_lists::managed(xml, identity, list, None);
    });
    Ok(xml)
}

fn describe_of_aws(call: &Call<'_>) -> Result<Xml, Error> {
    let ids: BTreeSet<PrefixListId> = call.ids("PrefixListId")?;
    let filters = Filters::parse(call.params, &["prefix-list-id", "prefix-list-name"])?;
    let page = Page::parse(call.params, 5..=1000)?;
    let model = call.read()?;
    let mut lists = of_ids(&model, &ids)?;
    lists.retain(|list| {
        list.is_aws
            && filters.matches(&list.tags, |name| {
                let is_id = name == "prefix-list-id";
                vec![Cow::Borrowed(if is_id { list.id.as_str() } else { &list.name })]
            })
    });
    let (lists, next) = page.cut(lists, |list| list.id.to_string());
    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("prefixListSet", lists, |xml, list| {
        xml.texts("cidrSet", list.entries.networks());
        xml.text("prefixListId", &list.id);
        xml.text("prefixListName", &list.name);
    });
    Ok(xml)
}

fn get_entries(call: &Call<'_>) -> Result<Xml, Error> {
    let id: PrefixListId = call.id("PrefixListId")?;
    let version = version(call, "TargetVersion")?;
    let page = Page::parse(call.params, 1..=100)?.at_most(ENTRIES);
    let model = call.read()?;
    let list = model.prefix_list_by_id(&id).map_err(|error| of_model(&error))?;
    let entries = entries_of(call, list, version)?;
    let (entries, next) = page.cut(entries.iter().collect(), |(network, _)| key(network));
    let mut xml = Xml::new();
    xml.list("entrySet", entries, |xml, (network, description)| {
        xml.text("cidr", network);
        xml.option("description", Some(description).filter(|text| !text.is_empty()));
    });
    xml.option("nextToken", next);
    Ok(xml)
}

/// The entries of a version of a list; without one, of the present one.
fn entries_of(call: &Call<'_>, list: &PrefixList, version: Option<u64>) -> Result<Entries, Error> {
    match version {
        Some(version) if version != list.version => {
            let earlier = call.stored(|store| Ok(store.prefix_list_version(list, version)?))?;
            let name = list.id.to_string();
            let missing = || model::Error::ListVersionNotFound { list: name, version };
            earlier.ok_or_else(|| of_model(&missing()))
        }
        _ => Ok(list.entries.clone()),
    }
}

fn get_associations(call: &Call<'_>) -> Result<Xml, Error> {
    let id: PrefixListId = call.id("PrefixListId")?;
    let page = Page::parse(call.params, 5..=255)?;
    let model = call.read()?;
    model.prefix_list_by_id(&id).map_err(|error| of_model(&error))?;
    let peer = Peer::PrefixList(id);
    let acls = model.acls.values().filter(|acl| acl.entries.values().any(|it| it.peer == peer));
    let groups =
        model.groups_by_id().filter(|group| group.rules.iter().any(|it| it.spec.peer == peer));
    let users = acls.map(|acl| acl.id.to_string()).chain(groups.map(|group| group.id.to_string()));
    let (users, next) = page.cut(users.collect(), String::clone);
    let mut xml = Xml::new();
    xml.list("prefixListAssociationSet", users, |xml, user| {
        xml.text("resourceId", user);
        xml.text("resourceOwner", call.identity().account);
    });
    xml.option("nextToken", next);
    Ok(xml)
}

/// The lists with these ids, and without any all lists.
fn of_ids<'a>(
    model: &'a Model,
    ids: &BTreeSet<PrefixListId>,
) -> Result<Vec<&'a PrefixList>, Error> {
    if ids.is_empty() {
        return Ok(model.prefix_lists.values().collect());
    }
    let lists = ids.iter().map(|id| model.prefix_list_by_id(id));
    lists.collect::<Result<_, _>>().map_err(|error| of_model(&error))
}

/// A version of a list, from 1.
fn version(call: &Call<'_>, name: &str) -> Result<Option<u64>, Error> {
    let version = call.params.number::<i64>(name)?;
    let version = version.map(|version| {
        u64::try_from(version).ok().filter(|version| *version > 0).ok_or_else(|| {
            Error::invalid(
                "The specified value for version is not valid. The value must be greater than (1).",
            )
        })
    });
    version.transpose()
}

/// A text for each network, in the order of networks.
fn key(network: &IpNet) -> String {
    match network {
        IpNet::V4(network) => {
            format!("4{:08x}{:02x}", network.addr().to_bits(), network.prefix_len())
        }
        IpNet::V6(network) => {
            format!("6{:032x}{:02x}", network.addr().to_bits(), network.prefix_len())
        }
    }
}
