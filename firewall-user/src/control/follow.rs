//! Devices that were renamed, moved or replaced: what is stored follows them, so that no device loses its
//! programs because another one has its name, and none that has a stored name stays without.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::enforcement::{AmbiguousName, holder, named, stored_as};
use super::watch;
use crate::dataplane::Pins;
use crate::dataplane::hooks::located::{Location, locate, record_place, was_attached_there};
use crate::dataplane::host::device::{self, Device};
use crate::dataplane::tables::maps::Maps;
use crate::model::{Interface, InterfaceDetails, InterfaceId, Model};
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
    /// Interfaces that are stored in a named network namespace now, with their devices. Their places are recorded:
    /// who is root there names the devices from now on.
    pub(super) placed: Vec<(u16, Device)>,
}

impl Followed {
    /// Records the places, and reports, once it is stored.
    ///
    /// # Errors
    /// A place cannot be recorded.
    pub(super) fn finish(self, maps: &mut Maps) -> Result<()> {
        self.reports.iter().for_each(|text| watch::report(text));
        self.placed.iter().try_for_each(|(slot, device)| Ok(record_place(maps, *slot, device)?))
    }
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
    let (mut moved, mut nowhere) = (BTreeMap::new(), BTreeSet::new());
    let interfaces: Vec<_> = transaction.model().interfaces.values().cloned().collect();
    for interface in interfaces {
        let location = locate(pins, &interface)?;
        let has_left = match &location {
            Location::Nowhere if has_no_place(&interface) => {
                transaction.delete_interface(interface.slot)?;
                followed.reports.push(format!("{}: its device is gone", interface.label()));
                followed.gone.push(interface.slot);
                false
            }
            Location::Nowhere => {
                nowhere.insert(interface.slot);
                false
            }
            Location::On(device) => !is_as_stored(&interface, device),
            Location::Unnamed(..) => true,
        };
        if has_left && was_attached_there(pins, &interface)? == interface.netns.is_none() {
            let new = restore_under(&location, &interface);
            moved.insert(interface.slot, Moved { interface, location, new });
        }
    }
    let chosen = choose(pins, transaction.model(), &moved, &nowhere)?;
    let moved: Vec<_> =
        moved.into_values().filter(|one| chosen.contains(&one.interface.slot)).collect();
    // First away from the names that others take.
    for Moved { interface, .. } in &moved {
        let netns = Some(format!("{LEFT}{}", interface.slot));
        transaction.put_interface(&Interface { netns, ..interface.clone() })?;
    }
    for Moved { location, new, .. } in &moved {
        let empty = transaction.model().interface(&new.device, new.netns.as_deref());
        if let Some(slot) = empty.map(|empty| empty.slot) {
            transaction.delete_interface(slot)?;
            followed.gone.push(slot);
        }
        transaction.put_interface(new)?;
        if let (Location::On(device), Some(_)) = (location, &new.netns) {
            followed.placed.push((new.slot, device.clone()));
        }
    }
    for Moved { interface, new, .. } in &moved {
        let mut report = format!("{}: its device is {} now", interface.label(), new.label());
        if is_open(pins, transaction.model(), interface)? {
            // Without a free slot the other device has no programs, and `status` says so.
            if let Ok(slot) = transaction.free_slot(capacity) {
                transaction.put_interface(&another(interface, slot)?)?;
                report += &format!(
                    ", and another one is {}: it gets the same groups and options",
                    interface.label()
                );
            }
        }
        followed.reports.push(report);
    }
    Ok(followed)
}

/// An interface whose live device is not where it is stored, by its host's doing.
struct Moved {
    interface: Interface,
    location: Location,
    /// As it would be stored.
    new: Interface,
}

/// The interfaces that are stored otherwise: those whose name a device without programs has now, and those that
/// come back to a name under which an empty copy of them is stored; and, as far as names are in their way, the
/// interfaces that are stored under these and have moved too.
fn choose(
    pins: &Pins,
    model: &Model,
    moved: &BTreeMap<u16, Moved>,
    nowhere: &BTreeSet<u16>,
) -> Result<BTreeSet<u16>> {
    let occupant = |one: &Moved| {
        let other = model.interface(&one.new.device, one.new.netns.as_deref());
        other.filter(|other| other.slot != one.interface.slot)
    };
    let is_copy = |one: &Moved, other: &Interface| {
        nowhere.contains(&other.slot) && is_same(&one.interface, other)
    };
    let mut chosen = BTreeSet::new();
    for (slot, one) in moved {
        let returns = occupant(one).is_some_and(|other| is_copy(one, other));
        if returns || is_open(pins, model, &one.interface)? {
            chosen.insert(*slot);
        }
    }
    let mut blocked = BTreeSet::new();
    loop {
        let before = (chosen.len(), blocked.len());
        for slot in chosen.clone() {
            let Some(one) = moved.get(&slot) else { continue };
            match occupant(one) {
                None => {}
                Some(other) if is_copy(one, other) => {}
                Some(other)
                    if moved.contains_key(&other.slot) && !blocked.contains(&other.slot) =>
                {
                    chosen.insert(other.slot);
                }
                Some(_) => {
                    chosen.remove(&slot);
                    blocked.insert(slot);
                }
            }
        }
        if (chosen.len(), blocked.len()) == before {
            return Ok(chosen);
        }
    }
}

/// Whether a device has the name of an interface and the programs of none, and no interface is stored for it.
fn is_open(pins: &Pins, model: &Model, interface: &Interface) -> Result<bool> {
    let stored = model.interface(&interface.device, interface.netns.as_deref());
    if stored.is_some_and(|stored| stored.slot != interface.slot) {
        return Ok(false);
    }
    let other = device::lookup(interface.netns.as_deref(), &interface.device)?;
    other.map_or(Ok(false), |other| Ok(holder(pins, model, &other)?.is_none()))
}

/// Whether two interfaces have the same groups and options.
fn is_same(one: &Interface, other: &Interface) -> bool {
    let named = Interface {
        id: one.id.clone(),
        slot: one.slot,
        device: one.device.clone(),
        netns: one.netns.clone(),
        details: one.details.clone(),
        tags: one.tags.clone(),
        ..other.clone()
    };
    named == *one
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
    let details = InterfaceDetails { attachment: None, ..interface.details.clone() };
    Ok(Interface { id: InterfaceId::random()?, slot, details, ..interface.clone() })
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
