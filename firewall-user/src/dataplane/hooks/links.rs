//! Pinned links, which keep a program attached while no process runs.

use std::io::ErrorKind;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::host::device::{self, Device};
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::sys::links::{self, Attachment};
use crate::dataplane::sys::unpin::unpin;
use crate::dataplane::tables::device::Recorded;

/// A pinned link, if it is attached to this device. The link of a removed device stays, attached to
/// nothing, even if another device now has its name.
pub(super) fn attached_link(
    pins: &Pins,
    slot: u16,
    place: Place,
    device: &Device,
) -> Result<Option<FdLink>> {
    let pin = pins.link(slot, place);
    let Some(link) = live(pins, slot, place)? else { return Ok(None) };
    if link.device != device.index || !is_here(pins, slot, place, &link)? {
        return Ok(None);
    }
    let what = format!("open link {}", pin.display());
    Ok(Some(PinnedLink::from_pin(&pin).context(what)?.into()))
}

/// A pinned link whose device still exists, in whichever network namespace.
pub(super) fn live(pins: &Pins, slot: u16, place: Place) -> Result<Option<Attachment>> {
    let pin = pins.link(slot, place);
    match links::attachment(&pin) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => {
            let link = result.context(format_args!("open link {}", pin.display()))?;
            Ok((link.device != 0).then_some(link))
        }
    }
}

/// Whether a link is attached to the device with its index in this thread's network namespace. A link's
/// index alone does not tell: it is that of the namespace that its device is in now, and every namespace
/// has a device with that index.
pub(super) fn is_here(pins: &Pins, slot: u16, place: Place, link: &Attachment) -> Result<bool> {
    if place == Place::Xdp {
        return Ok(device::xdp_program(link.device)? == Some(link.program));
    }
    match links::on_tcx(link.device, place == Place::Transmit) {
        Ok(all) => Ok(all.iter().any(|(_, id)| *id == link.link)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODEV | libc::EINVAL) => Ok(false),
            // Without CAP_NET_ADMIN, as commands that only read may run: as far as the record tells.
            Some(libc::EPERM) => Recorded::is_here(pins, slot, link.device),
            _ => Err(error).context("list the TCX programs of a device"),
        },
    }
}

/// Removes the pin of a link whose device is gone, to make room for another. One that is attached somewhere is
/// never given up: its device was moved since it was found.
pub(super) fn unpin_dead(pins: &Pins, slot: u16, place: Place, device: &Device) -> Result<()> {
    if live(pins, slot, place)?.is_some() {
        return Err(renamed(device));
    }
    unpin(&pins.link(slot, place))
}

/// Refuses a link that has come to another device than the one that was chosen: the device was renamed
/// in between, and its name is what the kernel was told.
pub(super) fn require_on(link: &Path, device: &Device) -> Result<()> {
    let what = format!("open link {}", link.display());
    if links::attachment(link).context(&what)?.device == device.index {
        return Ok(());
    }
    links::detach(link).context(&what)?;
    Err(renamed(device))
}

/// The error of a device that was renamed while programs were attached to it.
pub(super) fn renamed(device: &Device) -> DataplaneError {
    DataplaneError::new(
        format!("attach to {}: the device was renamed or moved meanwhile", device.label()),
        "run the command again",
    )
}
