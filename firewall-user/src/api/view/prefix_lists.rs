//! Prefix lists.

use firewall_ec2::Xml;

use super::tags;
use crate::model::{Identity, PrefixList};

/// The owner of the lists that AWS manages.
pub(in crate::api) const AWS: &str = "AWS";

/// The elements of a `ManagedPrefixList`; `state` as of the list, or of what was done to it.
pub(in crate::api) fn managed(
    xml: &mut Xml,
    identity: &Identity,
    list: &PrefixList,
    state: Option<&str>,
) {
    xml.text("prefixListId", &list.id);
    xml.text("addressFamily", list.family.document_name());
    xml.text("state", state.unwrap_or(list.state.name()));
    xml.text("prefixListArn", arn(identity, list));
    xml.text("prefixListName", &list.name);
    // Those of AWS have neither.
    if !list.is_aws {
        xml.text("maxEntries", list.weight());
        xml.text("version", list.version);
    }
    tags::set(xml, &list.tags);
    xml.text("ownerId", owner(identity, list));
}

/// The owner of a list.
pub(in crate::api) fn owner<'a>(identity: &'a Identity, list: &PrefixList) -> &'a str {
    if list.is_aws { AWS } else { &identity.account }
}

fn arn(identity: &Identity, list: &PrefixList) -> String {
    if list.is_aws {
        format!("arn:aws:ec2:{}:aws:prefix-list/{}", identity.region, list.id)
    } else {
        identity.arn("prefix-list", list.id.as_str())
    }
}
