//! Attaching network interfaces to devices of this host, and detaching them.

use firewall_ebpf::abi::interface::Orientation;
use firewall_ec2::{Error, Xml};

use super::{done, required_id};
use crate::api::call::{Call, Host};
use crate::control::enforcement::holder;
use crate::dataplane::host::device::{self, Device};
use crate::model::{Attachment, AttachmentId, Interface, InterfaceDetails, Model, is_one_address};
use crate::observe::instance;

/// The tag that names the device of an interface, as `DEVICE` or `NAMESPACE/DEVICE`.
pub(in crate::api) const DEVICE_TAG: &str = "secgroup:device";

/// The tag with the orientation of the device, `host` or `guest`.
pub(in crate::api) const ORIENTATION_TAG: &str = "secgroup:orientation";

pub(super) fn attach_network_interface(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let id = required_id(params)?;
    let instance = params.required("InstanceId")?;
    let index = params.number::<u32>("DeviceIndex")?;
    let index = index.ok_or_else(|| Error::missing("DeviceIndex"))?;
    if params.number::<u32>("NetworkCardIndex")?.is_some_and(|card| card != 0) {
        return Err(Error::invalid("This host has one network card, with index 0."));
    }
    super::refuse_unsupported(params, &["EnaQueueCount", "EnaSrdSpecification"])?;
    if instance != instance::id() {
        let text =
            format!("The instance ID '{instance}' does not exist; this host is {}", instance::id());
        return Err(Error::new("InvalidInstanceID.NotFound", text));
    }
    let attachment =
        AttachmentId::random().map_err(|error| crate::api::refusal::of_model(&error))?;
    let new = attachment.clone();
    call.attach(move |change, host| {
        let model = change.model();
        let interface = model.interface_by_id(&id)?.clone();
        if interface.is_attached() {
            let text = format!("Interface: [{id}] in use.");
            return Err(Error::new("InvalidNetworkInterface.InUse", text).into());
        }
        let is_taken = |one: &Interface| {
            one.details.attachment.as_ref().is_some_and(|here| here.index == index)
        };
        if model.interfaces.values().any(is_taken) {
            return Err(Error::invalid(format!(
                "Instance '{instance}' already has an interface attached at device index '{index}'."
            ))
            .into());
        }
        let device = device_of(model, &interface, host)?;
        let attachment = Attachment {
            id: attachment,
            index,
            time: change.now().wall,
            delete_on_termination: false,
        };
        let details =
            InterfaceDetails { attachment: Some(attachment), ..interface.details.clone() };
        let attached = Interface {
            slot: change.free_slot(host.capacity)?,
            device: device.name,
            netns: device.netns,
            orientation: orientation(&interface)?,
            details,
            ..interface
        };
        Ok(change.attach_interface(attached)?)
    })?;
    let mut xml = Xml::new();
    xml.text("attachmentId", new);
    xml.text("networkCardIndex", 0);
    Ok(xml)
}

pub(super) fn detach_network_interface(call: &Call<'_>) -> Result<Xml, Error> {
    let attachment = call.params.required("AttachmentId")?;
    // There is nothing that a device could refuse.
    call.params.flag("Force")?;
    call.detach(|model| {
        let has_it = |one: &&Interface| {
            one.details.attachment.as_ref().is_some_and(|here| here.id.as_str() == attachment)
        };
        let interface = model.interfaces.values().find(has_it);
        Ok(interface.ok_or_else(|| not_found(attachment))?.slot)
    })?;
    Ok(done())
}

/// The error of an attachment that does not exist.
pub(super) fn not_found(attachment: &str) -> Error {
    let text = format!("The attachment '{attachment}' does not exist.");
    Error::new("InvalidAttachmentID.NotFound", text)
}

/// The device that an interface is attached to: the one that its tag names, else the only one of this host that has
/// an address of it.
fn device_of(model: &Model, interface: &Interface, host: &Host<'_>) -> anyhow::Result<Device> {
    let id = &interface.id;
    let device = match interface.tags.get(DEVICE_TAG) {
        Some(name) => tagged(name)?.ok_or_else(|| {
            Error::invalid(format!(
                "Network interface {id}: there is no device {name} on this host, which its tag {DEVICE_TAG} \
                 names."
            ))
        })?,
        None => with_address(interface)?,
    };
    if let Some(other) = holder(host.pins, model, &device)? {
        return Err(Error::invalid(format!(
            "Network interface {id}: the device {} has network interface {} already.",
            device.label(),
            other.id
        ))
        .into());
    }
    Ok(device)
}

/// The device that a tag names.
fn tagged(name: &str) -> anyhow::Result<Option<Device>> {
    let (netns, device) = match name.split_once('/') {
        Some((netns, device)) => (Some(netns), device),
        None => (None, name),
    };
    let can_be = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
    if !can_be(device) || netns.is_some_and(|netns| !can_be(netns)) {
        return Ok(None);
    }
    Ok(device::lookup(netns, device)?)
}

fn with_address(interface: &Interface) -> anyhow::Result<Device> {
    let given = interface.addresses.iter().filter(|network| is_one_address(network));
    let given = given.map(ipnet::IpNet::addr).chain(interface.details.chosen);
    let mut found: Vec<Device> = Vec::new();
    for address in given {
        for device in device::with_address(address)? {
            if found.iter().all(|one| one.index != device.index) {
                found.push(device);
            }
        }
    }
    let id = &interface.id;
    let hint = format!(
        "create its tag {DEVICE_TAG} with the name of a device as its value, such as eth0, or NAMESPACE/eth0 \
         for one in a network namespace"
    );
    match &mut found[..] {
        [_] => Ok(found.remove(0)),
        [] => Err(Error::invalid(format!(
            "Network interface {id}: no device of this host has its address; {hint}."
        ))
        .into()),
        _ => {
            let names: Vec<_> = found.iter().map(Device::label).collect();
            Err(Error::invalid(format!(
                "Network interface {id}: {} have its addresses; {hint}.",
                names.join(" and ")
            ))
            .into())
        }
    }
}

fn orientation(interface: &Interface) -> Result<Orientation, Error> {
    let Some(word) = interface.tags.get(ORIENTATION_TAG) else {
        return Ok(interface.orientation);
    };
    let all = [Orientation::Host, Orientation::Guest];
    all.into_iter().find(|one| one.name() == word).ok_or_else(|| {
        Error::invalid(format!(
            "Network interface {}: its tag {ORIENTATION_TAG} is {word:?}, and neither host nor guest.",
            interface.id
        ))
    })
}
