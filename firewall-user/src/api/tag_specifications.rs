//! `TagSpecification.N.ResourceType` and `TagSpecification.N.Tag.M.Key` and `.Value`.

use std::collections::BTreeMap;

use firewall_ec2::{Error, Params};

use super::refusal::of_model;
use crate::model::tags;

/// The tags for a type of resource; `None` if the parameter is absent.
///
/// # Errors
/// Another type is given, a specification has no tag, or EC2 would refuse a tag.
pub(super) fn parse(
    params: &Params,
    kind: &str,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let specifications = params.list("TagSpecification")?;
    if specifications.is_empty() {
        return Ok(None);
    }
    let mut pairs = Vec::new();
    for specification in specifications {
        let of = specification.text("ResourceType").unwrap_or_default();
        if of != kind {
            return Err(Error::invalid(format!(
                "'{of}' is not a valid taggable resource type for this operation."
            )));
        }
        let here = read_tags(specification, "Tag")?;
        if here.is_empty() {
            return Err(Error::invalid("Tag specification must have at least one tag"));
        }
        pairs.extend(here);
    }
    tags::collect(pairs).map(Some).map_err(|error| of_model(&error))
}

/// The pairs of `NAME.M.Key` and `NAME.M.Value`; an absent value is an empty one.
///
/// # Errors
/// One has no key.
pub(super) fn read_tags(params: &Params, name: &str) -> Result<Vec<(String, String)>, Error> {
    let pair = |tag: &Params| {
        let key = tag.required("Key")?.to_owned();
        Ok((key, tag.text("Value").unwrap_or_default().to_owned()))
    };
    params.list(name)?.into_iter().map(pair).collect()
}
