//! Filters of a clsact qdisc: TC programs on a kernel without TCX.
//!
//! They are attached by netlink and have no link. Ours is the filter whose program has the id of the
//! pinned one. It is replaced in place: packets meet the old program or the new one.

use std::fs;
use std::path::Path;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{ProgramInfo, SchedClassifier};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::hooks::filters::{
    Filter, PREFERENCE, client, detach_from, direction, filters, index, known_filters, qdiscs,
    remove_empty_qdisc,
};
use crate::dataplane::hooks::{links, orphans, refusal};
use crate::dataplane::host::device::Device;
use crate::dataplane::host::netlink::Netlink;
use crate::dataplane::host::netns;
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::sys::unpin::{remove_dir, unpin};

/// Attaches a loaded program, or replaces the one that is attached there.
pub(super) fn attach(
    program: &mut SchedClassifier,
    pins: &Pins,
    slot: u16,
    device: &Device,
    place: Place,
) -> Result<()> {
    let (path, next) = (pins.program(slot, place), pins.next_program(slot, place));
    let Some(filter) = find(pins, slot, device, place)? else {
        unpin(&next)?;
        unpin(&path)?;
        return attach_first(program, pins, slot, device, place);
    };
    if pinned_id(&next)? == filter.program {
        // An earlier command was killed before this rename.
        fs::rename(&next, &path).context(format!("pin program {}", path.display()))?;
    }
    // Both are pinned while one replaces the other: the filter is ours with either program.
    unpin(&next)?;
    program.pin(&next).context(format!("pin program {}", next.display()))?;
    let link = SchedClassifierLink::attached(
        &device.name,
        direction(place),
        filter.preference,
        filter.handle.into(),
        None,
    );
    let link = link.context(format!("open the filter of {}", device.name))?;
    let replaced = program.attach_to_link(link);
    if replaced.is_err()
        && find(pins, slot, device, place)?.is_some_and(|now| now.program == filter.program)
    {
        unpin(&next)?;
    }
    let id = replaced.context(format!("replace the filter of {}", device.name))?;
    keep(program, id, device)?;
    fs::rename(&next, &path).context(format!("pin program {}", path.display()))
}

fn attach_first(
    program: &mut SchedClassifier,
    pins: &Pins,
    slot: u16,
    device: &Device,
    place: Place,
) -> Result<()> {
    let is_created = ensure_qdisc(pins, slot, device)?;
    let path = pins.program(slot, place);
    let mut attempt = || {
        let filters = list(device, place)?;
        if let Some(other) = filters.iter().find(|filter| !filter.leaves_room()) {
            let what = other.describe();
            return Err(DataplaneError::new(
                format!("attach clsact to {}: {what} would run first", device.name),
                "add that filter again with a larger preference (`tc filter`): secgroup must be first",
            ));
        }
        program.pin(&path).context(format!("pin program {}", path.display()))?;
        let first = NlOptions { priority: PREFERENCE, ..NlOptions::default() };
        let id = program
            .attach_with_options(&device.name, direction(place), TcAttachOptions::Netlink(first))
            .map_err(|error| refusal::clsact(device, &error))?;
        keep(program, id, device)?;
        // The name was what the kernel was told: the device may have lost it in between.
        match find(pins, slot, device, place)? {
            Some(_) => Ok(()),
            None => {
                detach_place(pins, slot, place)?;
                Err(links::renamed(device))
            }
        }
    };
    let attached = attempt();
    if attached.is_err() {
        unpin(&path)?;
        if is_created {
            remove_empty_qdisc(&client()?, index(device))?;
            remove_dir(&pins.qdisc(slot))?;
        }
    }
    attached?;
    // Only now: until then they have dropped what nobody else decided about. An error leaves what is attached.
    orphans::remove(device, place, pinned_id(&path)?)
}

/// Keeps the filter: aya would detach it as soon as its link is dropped.
fn keep(
    program: &mut SchedClassifier,
    id: aya::programs::tc::SchedClassifierLinkId,
    device: &Device,
) -> Result<()> {
    let link = program.take_link(id).context(format!("attach clsact to {}", device.name))?;
    std::mem::forget(link);
    Ok(())
}

/// Creates the qdisc if there is none; returns whether it did.
fn ensure_qdisc(pins: &Pins, slot: u16, device: &Device) -> Result<bool> {
    let qdiscs = qdiscs(&client()?)?;
    let kind = qdiscs.into_iter().find(|(at, _)| *at == index(device)).map(|(_, kind)| kind);
    let marker = pins.qdisc(slot);
    match kind.as_deref() {
        Some("clsact") => {
            for place in Place::CLSACT {
                if is_attached(pins, slot, device, place)? {
                    return Ok(false);
                }
            }
            // A marker that exists belongs to an earlier device.
            remove_dir(&marker).map(|()| false)
        }
        Some(kind) => Err(DataplaneError::new(
            format!("attach clsact to {}: its {kind} qdisc prevents it", device.name),
            format!("`tc qdisc del dev {} {kind}` removes it, with the filters in it", device.name),
        )),
        None => {
            fs::create_dir_all(&marker).context(format!("create {}", marker.display()))?;
            if let Err(error) = qdisc_add_clsact(&device.name) {
                remove_dir(&marker)?;
                return Err(refusal::clsact(device, &error));
            }
            Ok(true)
        }
    }
}

/// The filters of one direction of a device.
fn list(device: &Device, place: Place) -> Result<Vec<Filter>> {
    filters(&client()?, index(device), place)
}

/// The index of the device of this thread's network namespace that has a filter of a slot; `first` is where
/// it is looked for before all others.
pub(super) fn device_here(pins: &Pins, slot: u16, first: Option<u32>) -> Result<Option<u32>> {
    let client = client()?;
    let mut devices: Vec<_> = qdiscs(&client)?.into_iter().map(|(at, _)| at).collect();
    devices.sort_by_key(|at| u32::try_from(*at).ok() != first);
    for place in Place::CLSACT {
        let programs = programs(pins, slot, place)?;
        let is_ours = |filter: &Filter| filter.program.is_some_and(|id| programs.contains(&id));
        for at in devices.iter().filter(|_| !programs.is_empty()) {
            if known_filters(&client, *at, place)?.iter().any(is_ours) {
                return Ok(u32::try_from(*at).ok());
            }
        }
    }
    Ok(None)
}

/// Whether a place's program is attached to a device.
pub(super) fn is_attached(pins: &Pins, slot: u16, device: &Device, place: Place) -> Result<bool> {
    Ok(find(pins, slot, device, place)?.is_some())
}

/// A description of the foreign filter that runs before ours.
pub(super) fn preceding_filter(
    pins: &Pins,
    slot: u16,
    device: &Device,
    place: Place,
) -> Result<Option<String>> {
    let programs = programs(pins, slot, place)?;
    if programs.is_empty() {
        return Ok(None);
    }
    let filters = list(device, place)?;
    let is_ours = |filter: &Filter| filter.program.is_some_and(|id| programs.contains(&id));
    let first = filters.first().filter(|first| !is_ours(first) && filters.iter().any(is_ours));
    Ok(first.map(Filter::describe))
}

/// Detaches the filters of a slot, in any network namespace, and removes the qdisc if
/// secgroup created it and it contains no other filter.
pub(super) fn detach(pins: &Pins, slot: u16) -> Result<()> {
    Place::CLSACT.into_iter().try_for_each(|place| detach_place(pins, slot, place))
}

/// As [`detach`], for one place.
pub(super) fn detach_place(pins: &Pins, slot: u16, place: Place) -> Result<()> {
    let programs = programs(pins, slot, place)?;
    if programs.is_empty() {
        return Ok(());
    }
    let is_created = pins.qdisc(slot).exists();
    let search = || detach_filter(&client()?, place, &programs, is_created);
    // The named namespaces come second: entering one needs a further privilege.
    if !search()? {
        for name in netns::names() {
            match netns::within(Some(&name), search) {
                Ok(false) => {}
                Ok(true) => break,
                // It was removed meanwhile, and its devices with it.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
    }
    unpin(&pins.next_program(slot, place))?;
    unpin(&pins.program(slot, place))?;
    if !Place::CLSACT.into_iter().any(|place| pins.program(slot, place).exists()) {
        remove_dir(&pins.qdisc(slot))?;
    }
    Ok(())
}

/// Detaches the filter with one of these programs; returns whether this namespace has one.
fn detach_filter(
    client: &Netlink,
    place: Place,
    programs: &[u32],
    is_created: bool,
) -> Result<bool> {
    for (at, _) in qdiscs(client)? {
        let filters = known_filters(client, at, place)?;
        let is_ours = |filter: &&Filter| filter.program.is_some_and(|id| programs.contains(&id));
        let Some(filter) = filters.iter().find(is_ours) else { continue };
        detach_from(client, at, place, filter)?;
        if is_created {
            remove_empty_qdisc(client, at)?;
        }
        return Ok(true);
    }
    Ok(false)
}

/// The filter with a place's pinned program, on this device.
fn find(pins: &Pins, slot: u16, device: &Device, place: Place) -> Result<Option<Filter>> {
    let programs = programs(pins, slot, place)?;
    if programs.is_empty() {
        return Ok(None);
    }
    let mut filters = list(device, place)?.into_iter();
    Ok(filters.find(|filter| filter.program.is_some_and(|id| programs.contains(&id))))
}

/// The ids of the pinned programs of a place: two only after a command that was killed.
fn programs(pins: &Pins, slot: u16, place: Place) -> Result<Vec<u32>> {
    let pins = [pins.program(slot, place), pins.next_program(slot, place)];
    pins.iter().filter_map(|path| pinned_id(path).transpose()).collect()
}

/// The id of a pinned program; `None` without a pin.
fn pinned_id(path: &Path) -> Result<Option<u32>> {
    if !path.exists() {
        return Ok(None);
    }
    let info = ProgramInfo::from_pin(path).context(format!("open program {}", path.display()))?;
    Ok(Some(info.id()))
}
