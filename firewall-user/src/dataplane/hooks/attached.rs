//! What is attached: slots, hooks, programs.

use std::fs;
use std::io::ErrorKind;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::hooks::{clsact, programs};
use crate::dataplane::host::device::Device;
use crate::dataplane::host::netns;
use crate::dataplane::pins::{Pins, Place};

/// The slots that have a link or a program, also those that are not in the store.
///
/// # Errors
/// A directory cannot be read.
pub fn slots(pins: &Pins) -> Result<Vec<u16>> {
    let mut slots = Vec::new();
    for dir in [pins.links_dir(), pins.programs_dir()] {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.context(format_args!("list {}", dir.display()))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        slots.extend(names.filter_map(|name| Pins::slot_of(name.to_str()?)));
    }
    slots.sort_unstable();
    slots.dedup();
    Ok(slots)
}

/// The hook of an interface's receive program, if it is attached to its device.
///
/// # Errors
/// A link cannot be read, or filters cannot be listed.
pub fn hook(pins: &Pins, slot: u16, device: &Device) -> Result<Option<Hook>> {
    netns::within(device.netns.as_deref(), || hook_here(pins, slot, device))
}

/// As [`hook`], in this thread's network namespace.
pub(super) fn hook_here(pins: &Pins, slot: u16, device: &Device) -> Result<Option<Hook>> {
    if programs::runs(pins, slot, Place::Xdp, device)? {
        let is_generic = device.xdp_is_generic.unwrap_or(false);
        return Ok(Some(if is_generic { Hook::XdpGeneric } else { Hook::Xdp }));
    }
    if programs::runs(pins, slot, Place::Receive, device)? {
        return Ok(Some(Hook::Tcx));
    }
    let is_attached = clsact::is_attached(pins, slot, device, Place::ClsactReceive)?;
    Ok(is_attached.then_some(Hook::Clsact))
}

/// Whether the transmit program of an interface is attached to its device.
///
/// # Errors
/// A link cannot be read, or filters cannot be listed.
pub fn transmits(pins: &Pins, slot: u16, device: &Device) -> Result<bool> {
    netns::within(device.netns.as_deref(), || transmits_here(pins, slot, device))
}

/// As [`transmits`], in this thread's network namespace.
pub(super) fn transmits_here(pins: &Pins, slot: u16, device: &Device) -> Result<bool> {
    if programs::runs(pins, slot, Place::Transmit, device)? {
        return Ok(true);
    }
    clsact::is_attached(pins, slot, device, Place::ClsactTransmit)
}

/// A description of the foreign clsact filter that runs before ours. There was none when ours was
/// attached.
///
/// # Errors
/// Filters cannot be listed.
pub fn preceding_filter(pins: &Pins, slot: u16, device: &Device) -> Result<Option<String>> {
    netns::within(device.netns.as_deref(), || {
        let mut filters = Place::CLSACT
            .into_iter()
            .map(|place| clsact::preceding_filter(pins, slot, device, place));
        filters.find_map(Result::transpose).transpose()
    })
}
