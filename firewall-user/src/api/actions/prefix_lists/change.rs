//! Changes of prefix lists.

use std::collections::BTreeMap;

use anyhow::Result;
use firewall_ec2::{Error, Params, Xml};
use ipnet::IpNet;

use super::version;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view;
use crate::model::{
    self, Entries, Family, Model, Networks, PrefixList, PrefixListId, parse_cidr, prefix_list_name,
    rule_description,
};
use crate::store::{NewPrefixList, Transaction};

/// The most entries that one request adds, and the most that it removes.
const MAX_ENTRIES: usize = 100;

/// `CreateManagedPrefixList`.
pub(super) fn create(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let name = params.required("PrefixListName")?;
    let max: i64 = params.number("MaxEntries")?.ok_or_else(|| Error::missing("MaxEntries"))?;
    let family = family(params.required("AddressFamily")?)?;
    let entries = entries(params, "Entry")?;
    let tags = call.tags("prefix-list")?.unwrap_or_default();
    let edit = |change: &mut Transaction<'_>| {
        let name = prefix_list_name(name)?;
        let max_entries = Some(max_entries(max, change)?);
        let id = change.create_prefix_list(NewPrefixList {
            name,
            family,
            entries,
            max_entries,
            tags,
        })?;
        Ok(id.to_string())
    };
    call.change_once(edit, |model, id| answer(call, model, &id.parse()?, None))
}

/// `ModifyManagedPrefixList`.
pub(super) fn modify(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let id: PrefixListId = call.id("PrefixListId")?;
    let current = version(call, "CurrentVersion")?;
    let name = params.text("PrefixListName");
    let max: Option<i64> = params.number("MaxEntries")?;
    let added = entries(params, "AddEntry")?;
    let removed = cidrs(params, "RemoveEntry")?;
    let _ = params.flag("IpamPrefixListResolverSyncEnabled")?;
    let has_entries = !added.is_empty() || !removed.is_empty();
    if has_entries && max.is_some() {
        let text = "You cannot modify the entries and the maximum entries for the prefix list in the same \
                    request.";
        return Err(Error::new("InvalidParameterCombination", text));
    }
    if let Some(twice) = removed.iter().find(|network| added.contains(network)) {
        let text = format!("The entry {twice} cannot be added and removed in the same request.");
        return Err(Error::new("InvalidParameterCombination", text));
    }
    if !has_entries && max.is_none() && name.is_none() {
        let text = "The request must contain entries, a name or the maximum entries.";
        return Err(Error::new("MissingParameter", text));
    }
    call.change(|change| {
        require_version(change.model(), &id, current)?;
        let PrefixList { name: named, max_entries: here, .. } =
            change.model().prefix_list_by_id(&id)?.clone();
        if name.is_some() || max.is_some() {
            let name = name.map_or(Ok(named), prefix_list_name)?;
            let max = max.map(|max| max_entries(max, change)).transpose()?;
            change.set_prefix_list(&id, name, max.or(here))?;
        }
        if has_entries {
            let PrefixList { name: list, entries, .. } = change.model().prefix_list_by_id(&id)?;
            let missing = |network| model::Error::EntryNotFound { list: list.clone(), network };
            let left = entries.without(&removed).map_err(missing)?;
            let twice = |network| model::Error::EntryDuplicate { list: list.clone(), network };
            let entries = left.with(&added).map_err(twice)?;
            change.set_entries(&id, entries)?;
        }
        answer(call, change.model(), &id, None)
    })
}

/// `RestoreManagedPrefixListVersion`.
pub(super) fn restore(call: &Call<'_>) -> Result<Xml, Error> {
    let id: PrefixListId = call.id("PrefixListId")?;
    let required = |name| version(call, name)?.ok_or_else(|| Error::missing(name));
    let previous = required("PreviousVersion")?;
    let current = required("CurrentVersion")?;
    call.change(|change| {
        require_version(change.model(), &id, Some(current))?;
        change.restore_prefix_list(&id, previous)?;
        answer(call, change.model(), &id, None)
    })
}

/// `DeleteManagedPrefixList`.
pub(super) fn delete(call: &Call<'_>) -> Result<Xml, Error> {
    let id: PrefixListId = call.id("PrefixListId")?;
    call.change(|change| {
        let list = change.model().prefix_list_by_id(&id)?;
        if list.is_aws {
            return Err(model::Error::PrefixListOfAws(list.name.clone()).into());
        }
        let xml = answer(call, change.model(), &id, Some("delete-complete"))?;
        change.delete_prefix_list(&id)?;
        Ok(xml)
    })
}

fn answer(call: &Call<'_>, model: &Model, id: &PrefixListId, state: Option<&str>) -> Result<Xml> {
    let list = model.prefix_list_by_id(id)?;
    let mut xml = Xml::new();
    xml.node("prefixList", |xml| view::prefix_lists::managed(xml, call.identity(), list, state));
    Ok(xml)
}

/// Refuses a request that was made for another version than the present one.
fn require_version(model: &Model, id: &PrefixListId, version: Option<u64>) -> Result<()> {
    let list = model.prefix_list_by_id(id)?;
    if version.is_some_and(|version| version != list.version) {
        let text = "The prefix list has the incorrect version number.";
        return Err(Error::new("PrefixListVersionMismatch", text).into());
    }
    Ok(())
}

fn max_entries(max: i64, change: &Transaction<'_>) -> Result<u32, model::Error> {
    let limit = change.limits().entries_per_prefix_list;
    let range = || model::Error::MaxEntriesRange { max, limit };
    u32::try_from(max).map_err(|_| range())
}

fn family(text: &str) -> Result<Family, Error> {
    let known = |family: &Family| family.document_name().eq_ignore_ascii_case(text);
    Family::ALL.into_iter().find(known).ok_or_else(|| {
        Error::invalid(format!(
            "Value ({text}) for parameter AddressFamily is invalid. Must be IPv4 or IPv6."
        ))
    })
}

/// `NAME.N.Cidr` and `NAME.N.Description`.
fn entries(params: &Params, name: &str) -> Result<Entries, Error> {
    let items = few(params, name)?;
    let mut entries = BTreeMap::new();
    for item in items {
        let network = cidr(item)?;
        let description = rule_description(item.text("Description").unwrap_or_default());
        let description = description.map_err(|error| of_model(&error))?;
        if entries.insert(network, description).is_some() {
            return Err(of_model(&model::Error::EntryRepeated(network)));
        }
    }
    Ok(entries.into_iter().collect())
}

/// `NAME.N.Cidr`.
fn cidrs(params: &Params, name: &str) -> Result<Networks, Error> {
    few(params, name)?.into_iter().map(cidr).collect()
}

fn few<'a>(params: &'a Params, name: &str) -> Result<Vec<&'a Params>, Error> {
    let items = params.list(name)?;
    if items.len() > MAX_ENTRIES {
        let text = format!(
            "{} has {} entries, and one request adds or removes {MAX_ENTRIES} at most",
            params.path_of(name),
            items.len()
        );
        return Err(Error::invalid(text));
    }
    Ok(items)
}

fn cidr(item: &Params) -> Result<IpNet, Error> {
    parse_cidr(item.required("Cidr")?).map_err(|error| of_model(&error))
}
