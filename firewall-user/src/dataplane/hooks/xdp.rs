//! XDP programs.

use aya::programs::Xdp;
use aya::programs::links::FdLink;
use aya::programs::xdp::{XdpLink, XdpMode};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::hooks::links::{attached_link, unpin_dead};
use crate::dataplane::hooks::refusal;
use crate::dataplane::host::device::Device;
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::sys::unpin::unpin;

/// Attaches a loaded program, or replaces the one that is attached. `tc` is the alternative for the
/// hint of an error.
pub(super) fn attach(
    program: &mut Xdp,
    pins: &Pins,
    slot: u16,
    device: &Device,
    (hook, tc): (Hook, Hook),
) -> Result<()> {
    let pin = pins.link(slot, Place::Xdp);
    if let Some(link) = attached_link(pins, slot, Place::Xdp, device)? {
        let link = XdpLink::try_from(link).context(format_args!("open link {}", pin.display()))?;
        program
            .attach_to_link(link)
            .context(format_args!("replace the XDP program of {}", device.name))?;
    } else {
        unpin_dead(pins, slot, Place::Xdp, device)?;
        let id = program
            .attach_to_if_index(device.index, mode(hook))
            .map_err(|error| refusal::xdp(device, hook, tc, &error))?;
        let link = program.take_link(id).context(format_args!("attach XDP to {}", device.name))?;
        // aya fell back to netlink, which has no links to pin or to replace atomically.
        let link = FdLink::try_from(link).map_err(|_| refusal::no_link(device, tc))?;
        link.pin(&pin).context(format_args!("pin link {}", pin.display()))?;
    }
    let pin = pins.program(slot, Place::Xdp);
    unpin(&pin)?;
    program.pin(&pin).context(format_args!("pin program {}", pin.display()))
}

const fn mode(hook: Hook) -> XdpMode {
    match hook {
        Hook::XdpGeneric => XdpMode::Skb,
        Hook::Xdp | Hook::Tcx | Hook::Clsact => XdpMode::Driver,
    }
}
