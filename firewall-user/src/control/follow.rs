//! Devices that were renamed, moved or replaced: what is stored follows them, so that no device loses its
//! programs because another one has its name, and none that has a stored name stays without.

use anyhow::Result;

use super::enforcement::{AmbiguousName, holder, named, stored_as};
use crate::dataplane::Pins;
use crate::dataplane::hooks::located::{Location, locate, was_attached_there};
use crate::dataplane::host::device::{self, Device};
use crate::model::{Interface, InterfaceId};
use crate::store::Transaction;

/// What is stored as the namespace of a device that left for one without a name, before its slot.
const LEFT: &str = "left:";

/// What [`follow`] has done.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// A sentence for each interface that is stored otherwise now.
    pub(super) reports: Vec<String>,
    /// The slots of interfaces that are no longer stored, because their devices are gone.
    pub(super) gone: Vec<u16>,
}

/// Where the device of an interface has left its place, and another one has taken its name there, stores the
/// first under the name that it has now, and a second interface with the same settings for the other.
///
/// Only where the name is this host's: in the network namespace of this process, and in a named one if the
/// name was given to another namespace. Who is root in a namespace names the devices there as he likes, and
/// could have as many interfaces as there are slots; there the programs stay where they are, and the other
/// device has none.
///
/// # Errors
/// The kernel or the store does not answer.
pub(super) fn follow(
    pins: &Pins,
    transaction: &mut Transaction<'_>,
    capacity: u32,
) -> Result<Followed> {
    let mut followed = Followed::default();
    let interfaces: Vec<_> = transaction.model().interfaces.values().cloned().collect();
    for interface in interfaces {
        let location = locate(pins, &interface)?;
        let has_left = match &location {
            Location::Nowhere => {
                if has_no_place(&interface) {
                    transaction.delete_interface(interface.slot)?;
                    followed.reports.push(format!("{}: its device is gone", interface.label()));
                    followed.gone.push(interface.slot);
                }
                false
            }
            Location::On(device) => !is_as_stored(&interface, device),
            Location::Unnamed(..) => true,
        };
        if !has_left {
            continue;
        }
        let Some(other) = device::lookup(interface.netns.as_deref(), &interface.device)? else {
            continue;
        };
        let is_named_by_host = was_attached_there(pins, &interface)? == interface.netns.is_none();
        let old = restore_under(&location, &interface);
        let is_free = transaction.model().interface(&old.device, old.netns.as_deref()).is_none();
        if is_named_by_host && is_free && holder(pins, transaction.model(), &other)?.is_none() {
            // Without a free slot the other device has no programs, and `status` says so.
            let Ok(slot) = transaction.free_slot(capacity) else { continue };
            transaction.put_interface(&old)?;
            transaction.put_interface(&another(&interface, slot)?)?;
            followed.reports.push(format!(
                "{0}: its device is {1} now, and another one is {0}: it gets the same groups and options",
                interface.label(),
                old.label()
            ));
        }
    }
    Ok(followed)
}

/// Whether an interface is stored as one whose device left for a namespace without a name.
pub(super) fn has_no_place(interface: &Interface) -> bool {
    interface.netns.as_ref().is_some_and(|name| name.starts_with(LEFT))
}

/// Whether a device is where an interface is stored, under its name or an alternative one.
fn is_as_stored(interface: &Interface, device: &Device) -> bool {
    device.netns == interface.netns && device.is_named(&interface.device)
}

/// The interface, stored with the place where its programs are.
fn restore_under(location: &Location, interface: &Interface) -> Interface {
    let (device, netns) = match location {
        Location::On(device) => (device.name.clone(), device.netns.clone()),
        Location::Nowhere | Location::Unnamed(..) => {
            (interface.device.clone(), Some(format!("{LEFT}{}", interface.slot)))
        }
    };
    Interface { device, netns, ..interface.clone() }
}

/// A second interface with the settings of one.
fn another(interface: &Interface, slot: u16) -> Result<Interface> {
    Ok(Interface { id: InterfaceId::random()?, slot, ..interface.clone() })
}

/// The interface that `attach` is about: the one whose programs the device has, else the one that is stored
/// under the name, else a new one.
///
/// What was stored stays so. If the device was renamed, it is stored under its new name, and the old name with
/// the settings that it had for the next device of that name. If the name was that of another device, which
/// has its programs still, that one is stored under the name that it has now.
///
/// # Errors
/// The name stands for two interfaces; there is no free slot; or the kernel does not answer.
pub fn to_attach(
    pins: &Pins,
    transaction: &mut Transaction<'_>,
    (word, netns): (&str, Option<&str>),
    capacity: u32,
) -> Result<Interface> {
    let model = transaction.model();
    let new = |slot, name: &str| {
        Ok::<_, anyhow::Error>(Interface::new(InterfaceId::random()?, slot, name, netns))
    };
    let Some(device) = device::lookup(netns, word)? else {
        return match named(pins, model, word, netns)? {
            Some(interface) => Ok(interface.clone()),
            None => new(transaction.free_slot(capacity)?, word),
        };
    };
    if let Some(interface) = holder(pins, model, &device)?.cloned() {
        if is_as_stored(&interface, &device) {
            return Ok(interface);
        }
        if let Some(other) = stored_as(model, &device) {
            return Err(AmbiguousName::new(word, other, &interface).into());
        }
        let renamed = restore_under(&Location::On(device), &interface);
        transaction.put_interface(&renamed)?;
        if !has_no_place(&interface) {
            let slot = transaction.free_slot(capacity)?;
            transaction.put_interface(&another(&interface, slot)?)?;
        }
        return Ok(renamed);
    }
    let Some(interface) = stored_as(model, &device).cloned() else {
        return new(transaction.free_slot(capacity)?, &device.name);
    };
    let location = locate(pins, &interface)?;
    match &location {
        Location::Nowhere => Ok(interface),
        Location::On(_) | Location::Unnamed(..) => {
            let slot = transaction.free_slot(capacity)?;
            transaction.put_interface(&restore_under(&location, &interface))?;
            another(&interface, slot)
        }
    }
}
