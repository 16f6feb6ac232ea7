//! Attributes of network interfaces.

use firewall_ec2::{Error, Xml};

use super::create::{description, groups, set_timeouts, timeouts};
use super::{done, refuse_unsupported, required_id};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::interfaces::{write_attachment, write_groups};
use crate::model::Interface;

/// The parameters of which a request has one.
const ATTRIBUTES: [&str; 5] = [
    "Attachment",
    "ConnectionTrackingSpecification",
    "Description",
    "SecurityGroupId",
    "SourceDestCheck",
];

pub(super) fn describe_network_interface_attribute(call: &Call<'_>) -> Result<Xml, Error> {
    let id = required_id(call.params)?;
    // EC2's documents have it as optional, and EC2 refuses a request without it.
    let attribute = call.params.required("Attribute")?;
    let model = call.read()?;
    let interface = model.interface_by_id(&id).map_err(|error| of_model(&error))?;
    let Interface { details, port, .. } = interface;
    let mut xml = Xml::new();
    match attribute {
        "attachment" => {
            xml.text("networkInterfaceId", &id);
            if let Some(attachment) = &details.attachment {
                xml.node("attachment", |xml| write_attachment(xml, call.identity(), attachment));
            }
        }
        "description" => {
            xml.node("description", |xml| xml.text("value", &details.description));
            xml.text("networkInterfaceId", &id);
        }
        "groupSet" => {
            write_groups(&mut xml, &model, interface);
            xml.text("networkInterfaceId", &id);
        }
        "sourceDestCheck" => {
            xml.text("networkInterfaceId", &id);
            xml.node("sourceDestCheck", |xml| xml.text("value", port.source_dest_check));
        }
        "associatePublicIpAddress" => {
            xml.text("networkInterfaceId", &id);
            xml.text("associatePublicIpAddress", false);
        }
        other => {
            let text = format!("Value ({other}) for parameter attribute is invalid.");
            return Err(Error::invalid(text));
        }
    }
    Ok(xml)
}

pub(super) fn modify_network_interface_attribute(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let id = required_id(params)?;
    refuse_unsupported(
        params,
        &[
            "AssociatePublicIpAddress",
            "AssociatedSubnetId",
            "EnaSrdSpecification",
            "EnablePrimaryIpv6",
        ],
    )?;
    // An empty description is one too.
    let new_description = params.node_or_empty("Description");
    let is_given = |name: &&&str| match **name {
        "Description" => new_description.is_some(),
        name => params.has(name),
    };
    let given: Vec<_> = ATTRIBUTES.iter().filter(is_given).collect();
    let attribute = match given[..] {
        [attribute] => *attribute,
        [] => return Err(Error::missing(&ATTRIBUTES.join(", "))),
        _ => {
            let text = "Only one attribute of a network interface can be modified at a time.";
            return Err(Error::new("InvalidParameterCombination", text));
        }
    };
    match attribute {
        "SecurityGroupId" => {
            let groups = groups(params)?;
            call.change(|change| Ok(change.edit_interface(&id, |one| one.groups = groups)?))?;
        }
        "Description" => {
            let text = new_description.and_then(|node| node.text("Value")).unwrap_or_default();
            let text = description(text)?;
            call.change(|change| {
                Ok(change.edit_interface(&id, |one| one.details.description = text)?)
            })?;
        }
        "SourceDestCheck" => {
            let node = params.node("SourceDestCheck");
            let is_on = node.map(|node| node.flag("Value")).transpose()?.flatten();
            let is_on = is_on.ok_or_else(|| Error::missing("SourceDestCheck.Value"))?;
            set_source_dest_check(call, is_on)?;
        }
        "ConnectionTrackingSpecification" => {
            let timeouts = timeouts(params)?;
            call.reattach(&id, |change| {
                Ok(change.edit_interface(&id, |one| set_timeouts(one, &timeouts))?)
            })?;
        }
        _ => modify_attachment(call)?,
    }
    Ok(done())
}

fn modify_attachment(call: &Call<'_>) -> Result<(), Error> {
    let id = required_id(call.params)?;
    let Some(changes) = call.params.node("Attachment") else { return Ok(()) };
    refuse_unsupported(changes, &["DefaultEnaQueueCount", "EnaQueueCount"])?;
    let attachment = changes.required("AttachmentId")?;
    let is_deleted = changes.flag("DeleteOnTermination")?;
    call.change(|change| {
        let here = &change.model().interface_by_id(&id)?.details.attachment;
        if here.as_ref().is_none_or(|here| here.id.as_str() != attachment) {
            return Err(super::attachment::not_found(attachment).into());
        }
        change.edit_interface(&id, |one| {
            if let (Some(here), Some(is_deleted)) = (&mut one.details.attachment, is_deleted) {
                here.delete_on_termination = is_deleted;
            }
        })?;
        Ok(())
    })
}

pub(super) fn reset_network_interface_attribute(call: &Call<'_>) -> Result<Xml, Error> {
    // Any value resets it.
    call.params.required("SourceDestCheck")?;
    set_source_dest_check(call, true)?;
    Ok(done())
}

fn set_source_dest_check(call: &Call<'_>, is_on: bool) -> Result<(), Error> {
    let id = required_id(call.params)?;
    call.reattach(&id, |change| {
        Ok(change.edit_interface(&id, |one| one.port.source_dest_check = is_on)?)
    })
}
