//! What the document of a status shows of the EC2 API: attachments, tags, and interfaces without a device.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Attachment, Interface, Model, rfc3339};

/// A network interface that no device has.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Unattached {
    /// Id of the interface, `eni-…`.
    pub network_interface_id: String,
    /// `available`.
    pub status: &'static str,
    /// Free text from the EC2 API.
    pub description: String,
    /// Its subnet.
    pub subnet_id: String,
    /// The VPC of its subnet.
    pub vpc_id: String,
    /// User tags; `secgroup:device` names the device that it is to be attached to.
    pub tag_set: Vec<TagDocument>,
    /// The groups of the interface.
    pub groups: Vec<AttachedGroup>,
}

/// An attachment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Attached {
    /// Id of the attachment, `eni-attach-…`.
    pub attachment_id: String,
    /// EC2's number of the attachment on this host.
    pub device_index: u32,
    /// When it was attached (RFC 3339).
    pub attach_time: String,
}

/// A tag.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct TagDocument {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A group of an interface.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct AttachedGroup {
    /// Id of the group, `sg-…`.
    pub group_id: String,
    /// Name of the group.
    pub group_name: String,
}

impl Attached {
    pub(super) fn new(attachment: &Attachment) -> Self {
        Self {
            attachment_id: attachment.id.to_string(),
            device_index: attachment.index,
            attach_time: rfc3339(attachment.time),
        }
    }
}

impl Unattached {
    pub(super) fn new(model: &Model, interface: &Interface) -> Self {
        Self {
            network_interface_id: interface.id.to_string(),
            status: "available",
            description: interface.details.description.clone(),
            subnet_id: interface.subnet.to_string(),
            vpc_id: model.vpc_of(interface).to_string(),
            tag_set: tags(interface),
            groups: groups(model, interface),
        }
    }
}

pub(super) fn groups(model: &Model, interface: &Interface) -> Vec<AttachedGroup> {
    let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
    let groups = groups.map(|group| AttachedGroup {
        group_id: group.id.to_string(),
        group_name: group.name.clone(),
    });
    groups.collect()
}

pub(super) fn tags(interface: &Interface) -> Vec<TagDocument> {
    let tags = interface.tags.iter();
    tags.map(|(key, value)| TagDocument { key: key.clone(), value: value.clone() }).collect()
}
