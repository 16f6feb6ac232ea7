//! Tags.

use std::borrow::Cow;
use std::collections::BTreeMap;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use super::Action;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::resource::{self, Resource, Tags};
use crate::api::tag_specifications::read_tags;
use crate::model::tags::{self, RESERVED};

#[cfg(test)]
mod tests;

pub(super) const ACTIONS: &[Action] = &[
    Action::changing("CreateTags", create),
    Action::changing("DeleteTags", delete),
    Action::reading("DescribeTags", describe),
];

/// The most objects of a request, as in EC2.
const MAX_RESOURCES: usize = 1000;

fn create(call: &Call<'_>) -> Result<Xml, Error> {
    let pairs = read_tags(call.params, "Tag")?;
    if pairs.is_empty() {
        return Err(Error::missing("Tag"));
    }
    let new = tags::collect(pairs).map_err(|error| of_model(&error))?;
    edit(call, |tags| tags.extend(new.clone()))
}

fn delete(call: &Call<'_>) -> Result<Xml, Error> {
    let mut gone: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for tag in call.params.list("Tag")? {
        // Without a value the tag goes whatever its value is; with an empty one only if its value is empty.
        gone.insert(tag.required("Key")?, tag.text_or_empty("Value"));
    }
    edit(call, |tags| {
        tags.retain(|key, value| {
            if gone.is_empty() {
                return key.get(..RESERVED.len()) == Some(RESERVED);
            }
            let wanted = gone.get(key.as_str());
            !wanted.is_some_and(|wanted| wanted.is_none_or(|wanted| wanted == value))
        });
    })
}

/// Edits the tags of all objects of a request, or of none.
fn edit(call: &Call<'_>, edit: impl Fn(&mut Tags)) -> Result<Xml, Error> {
    let ids = call.params.texts("ResourceId")?;
    if ids.is_empty() {
        return Err(Error::missing("resourceIdSet"));
    }
    if ids.len() > MAX_RESOURCES {
        let text = format!(
            "The maximum number of resources in a request is {MAX_RESOURCES}, and it has {}",
            ids.len()
        );
        return Err(Error::invalid(text));
    }
    call.change(|change| {
        for id in &ids {
            let resource = Resource::find(change.model(), id)?;
            let here = resource.tags(change.model())?.into_owned();
            let mut tags = here.clone();
            edit(&mut tags);
            if tags != here {
                resource.set_tags(change, tags)?;
            }
        }
        Ok(())
    })?;
    let mut xml = Xml::new();
    xml.text("return", true);
    Ok(xml)
}

fn describe(call: &Call<'_>) -> Result<Xml, Error> {
    let names = ["key", "resource-id", "resource-type", "tag", "value"];
    let filters = Filters::parse(call.params, &names)?;
    let page = Page::parse(call.params, 5..=1000)?;
    let model = call.read()?;
    let mut rows = Vec::new();
    for object in resource::tagged(&model) {
        let resource::Tagged { kind, id, tags } = object;
        for (key, value) in tags.iter() {
            // Each row is one tag: `tag:KEY` is of this one.
            let one = [(key.clone(), value.clone())].into();
            let is_found = filters.matches(&one, |name| {
                vec![Cow::Borrowed(match name {
                    "key" => key.as_str(),
                    "resource-id" => id,
                    "resource-type" => kind,
                    _ => value.as_str(),
                })]
            });
            if is_found {
                rows.push((id, key.clone(), kind, value.clone()));
            }
        }
    }
    let place = |(id, key, ..): &(&str, String, &str, String)| format!("{id} {key}");
    rows.sort_by_key(place);
    let (rows, next) = page.cut(rows, place);
    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("tagSet", rows, |xml, (id, key, kind, value)| {
        xml.text("key", key);
        xml.text("resourceId", id);
        xml.text("resourceType", kind);
        xml.text("value", value);
    });
    Ok(xml)
}
