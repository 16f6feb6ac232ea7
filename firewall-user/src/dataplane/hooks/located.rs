//! Where an interface's programs are. The kernel is asked, not the name that is stored: a device that was
//! renamed or moved to another network namespace keeps its programs, and another device may have its name.

use crate::dataplane::error::Result;
use crate::dataplane::hooks::clsact;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::hooks::links::{is_here, live};
use crate::dataplane::host::device::{self, Device};
use crate::dataplane::host::netns;
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::tables::device::Recorded;
use crate::dataplane::tables::maps::Maps;
use crate::model::Interface;

/// Where an interface's programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On no device: they were never attached, or their device was removed.
    Nowhere,
    /// On this device.
    On(Device),
    /// On a device in a network namespace that has no name, so that only the links tell: the hook of the
    /// receive program, and whether the transmit program is there too.
    Unnamed(Option<Hook>, bool),
}

/// The places with links.
const LINKS: [Place; 3] = [Place::Xdp, Place::Receive, Place::Transmit];

/// Finds an interface's programs: first in the network namespace where they are expected, then in that of
/// this process, then in every one with a name.
///
/// # Errors
/// A link cannot be read, or the kernel does not answer.
pub fn locate(pins: &Pins, interface: &Interface) -> Result<Location> {
    let slot = interface.slot;
    let mut has_link = false;
    for place in LINKS {
        has_link |= live(pins, slot, place)?.is_some();
    }
    let has_filter = Place::CLSACT.iter().any(|place| pins.program(slot, *place).exists());
    if !has_link && !has_filter {
        return Ok(Location::Nowhere);
    }
    let expected = interface.netns.as_deref();
    if let Some(device) = locate_in(pins, slot, expected)? {
        return Ok(Location::On(device));
    }
    if expected.is_some()
        && let Some(device) = locate_in(pins, slot, None)?
    {
        return Ok(Location::On(device));
    }
    for name in netns::names() {
        if expected != Some(&name)
            && let Some(device) = locate_in(pins, slot, Some(&name))?
        {
            return Ok(Location::On(device));
        }
    }
    // A filter does not survive its device's move.
    if !has_link {
        return Ok(Location::Nowhere);
    }
    let hook = [(Place::Xdp, Hook::Xdp), (Place::Receive, Hook::Tcx)];
    let mut hooks =
        hook.into_iter().map(|(place, hook)| Ok(live(pins, slot, place)?.map(|_| hook)));
    let hook = hooks.find_map(Result::transpose).transpose()?;
    Ok(Location::Unnamed(hook, live(pins, slot, Place::Transmit)?.is_some()))
}

/// The device of a network namespace that has a slot's programs.
fn locate_in(pins: &Pins, slot: u16, namespace: Option<&str>) -> Result<Option<Device>> {
    if namespace.is_some_and(|name| !netns::path(name).exists()) {
        return Ok(None);
    }
    let index = match netns::within(namespace, || index_here(pins, slot)) {
        // It was removed meanwhile, or is none.
        Err(error) if error.is_not_found() => return Ok(None),
        result => result?,
    };
    index.map_or(Ok(None), |index| device::with_index(namespace, index))
}

/// The index of the device of this thread's network namespace that has a slot's programs.
fn index_here(pins: &Pins, slot: u16) -> Result<Option<u32>> {
    for place in LINKS {
        if let Some(link) = live(pins, slot, place)?
            && is_here(pins, slot, place, &link)?
        {
            return Ok(Some(link.device));
        }
    }
    if !Place::CLSACT.iter().any(|place| pins.program(slot, *place).exists()) {
        return Ok(None);
    }
    let recorded = Recorded::of(pins, slot)?.and_then(Recorded::index);
    clsact::device_here(pins, slot, recorded)
}

/// Whether an interface's programs were attached from within the network namespace that it is stored with,
/// as that is now: a namespace's name may have gone to another one, and this command may run in another than
/// the last. Where nothing is recorded, they were.
///
/// # Errors
/// The namespace cannot be entered, or the record cannot be read.
pub fn was_attached_there(pins: &Pins, interface: &Interface) -> Result<bool> {
    let Some(recorded) = Recorded::of(pins, interface.slot)? else { return Ok(true) };
    netns::within(interface.netns.as_deref(), || recorded.was_in_this_namespace())
}

/// Records the place of a device that is stored there now.
///
/// # Errors
/// The namespace cannot be entered, or the record cannot be written.
pub fn record_place(maps: &mut Maps, slot: u16, device: &Device) -> Result<()> {
    netns::within(device.netns.as_deref(), || maps.record_device(slot, device.index))
}
