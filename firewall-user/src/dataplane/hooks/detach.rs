//! Detaching programs from devices. Enforcement ends here.

use std::fs;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::hooks::attached::slots;
use crate::dataplane::hooks::{clsact, orphans};
use crate::dataplane::host::{device, netns};
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::records;
use crate::dataplane::sys::links;
use crate::dataplane::sys::unpin::unpin;
use crate::model::Interface;

/// Detaches an interface's programs from its device.
///
/// # Errors
/// A program cannot be detached, or a pin cannot be removed.
pub fn detach(pins: &Pins, slot: u16) -> Result<()> {
    Place::ALL.into_iter().try_for_each(|place| detach_place(pins, slot, place))?;
    // Without it, records that are still to be written could be taken for those of the slot's next interface.
    // Enforcement has ended all the same.
    let _ = records::end(pins, slot);
    Ok(())
}

/// Detaches the program of one place.
pub(super) fn detach_place(pins: &Pins, slot: u16, place: Place) -> Result<()> {
    if Place::CLSACT.contains(&place) {
        return clsact::detach_place(pins, slot, place);
    }
    let link = pins.link(slot, place);
    // Before the pin is removed: the kernel frees a pin later, and until then the program would run
    // with a policy that is removed already.
    links::detach(&link).context(format_args!("detach link {}", link.display()))?;
    unpin(&link)?;
    unpin(&pins.program(slot, place))
}

/// Detaches the filters of clsact that an interface's device still has although its pins are gone.
///
/// # Errors
/// They cannot be listed or detached.
pub fn detach_orphans(interface: &Interface) -> Result<()> {
    let netns = interface.netns.as_deref();
    let Some(device) = device::lookup(netns, &interface.device)? else { return Ok(()) };
    netns::within(netns, || {
        Place::CLSACT.into_iter().try_for_each(|place| orphans::remove(&device, place, None))
    })
}

/// Detaches every program; the pins of links and their programs stay.
pub(in crate::dataplane) fn detach_all(pins: &Pins) -> Result<()> {
    for link in fs::read_dir(pins.links_dir()).into_iter().flatten().flatten() {
        let pin = link.path();
        links::detach(&pin).context(format_args!("detach link {}", pin.display()))?;
    }
    slots(pins)?.into_iter().try_for_each(|slot| clsact::detach(pins, slot))
}
