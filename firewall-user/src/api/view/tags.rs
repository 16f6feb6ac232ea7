//! Tags.

use std::collections::BTreeMap;

use firewall_ec2::Xml;

/// The element `tagSet`.
pub(in crate::api) fn set(xml: &mut Xml, tags: &BTreeMap<String, String>) {
    xml.list("tagSet", tags, |xml, (key, value)| {
        xml.text("key", key);
        xml.text("value", value);
    });
}
