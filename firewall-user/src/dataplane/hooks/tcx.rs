//! TC programs by TCX links.

use aya::programs::SchedClassifier;
use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::hooks::links::{attached_link, require_on, unpin_dead};
use crate::dataplane::hooks::refusal;
use crate::dataplane::host::device::Device;
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::sys::unpin::unpin;

/// Attaches a loaded program, or replaces the one that is attached.
pub(super) fn attach(
    program: &mut SchedClassifier,
    pins: &Pins,
    slot: u16,
    device: &Device,
    place: Place,
) -> Result<()> {
    let pin = pins.link(slot, place);
    if let Some(link) = attached_link(pins, slot, place, device)? {
        let link = SchedClassifierLink::try_from(link)
            .context(format_args!("open link {}", pin.display()))?;
        program
            .attach_to_link(link)
            .context(format_args!("replace the TCX program of {}", device.name))?;
    } else {
        unpin_dead(pins, slot, place, device)?;
        let direction = match place {
            Place::Transmit => TcAttachType::Egress,
            _ => TcAttachType::Ingress,
        };
        // First, so that no other program can end the chain with "pass" before ours.
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(&device.name, direction, order)
            .map_err(|error| refusal::tcx(device, &error))?;
        let what = format!("attach TCX to {}", device.name);
        let link = program.take_link(id).context(&what)?;
        let link = FdLink::try_from(link).context(&what)?;
        link.pin(&pin).context(format_args!("pin link {}", pin.display()))?;
        require_on(&pin, device)?;
    }
    let pin = pins.program(slot, place);
    unpin(&pin)?;
    program.pin(&pin).context(format_args!("pin program {}", pin.display()))
}
