//! Filters of a clsact qdisc: where the TC programs hang on a kernel without TCX.
//!
//! Netlink attaches them and nothing keeps a link. Ours is the filter whose program has the number of
//! the pinned one. It is replaced in place: packets meet the old program or the new one.

use std::fs;
use std::io::ErrorKind;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{ProgramInfo, SchedClassifier};
use rtnetlink::Handle;

use crate::dataplane::device::{Device, netlink};
use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::filters::{
    Filter, PREFERENCE, direction, filters, index, list, name, qdiscs, remove_empty_qdisc,
};
use crate::dataplane::pins::{self, Pins, Place};
use crate::dataplane::{netns, refusal};

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
        pins::remove(&next)?;
        pins::remove(&path)?;
        return attach_first(program, pins, slot, device, place);
    };
    if pinned(&next)? == filter.program {
        // An earlier command got no further.
        fs::rename(&next, &path).context(format!("pin program {}", path.display()))?;
    }
    // Both are pinned while one takes the other's place: the filter is ours whichever it has.
    pins::remove(&next)?;
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
        pins::remove(&next)?;
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
    let ours = ensure_qdisc(pins, slot, device)?;
    let path = pins.program(slot, place);
    let mut attempt = || {
        if let Some(other) = list(device, place)?.iter().find(|filter| !filter.leaves_room()) {
            return Err(DataplaneError::new(
                format!(
                    "attach clsact to {}: {} would be asked first",
                    device.name,
                    other.describe()
                ),
                "add that filter anew with a larger preference (`tc filter`): secgroup needs the first",
            ));
        }
        program.pin(&path).context(format!("pin program {}", path.display()))?;
        let first = NlOptions { priority: PREFERENCE, ..NlOptions::default() };
        let id = program
            .attach_with_options(&device.name, direction(place), TcAttachOptions::Netlink(first))
            .map_err(|error| refusal::clsact(device, &error))?;
        keep(program, id, device)
    };
    let attached = attempt();
    if attached.is_err() {
        pins::remove(&path)?;
        if ours {
            netlink(async |handle| remove_empty_qdisc(&handle, index(device)).await)?;
            forget_qdisc(pins, slot)?;
        }
    }
    attached
}

/// aya would take the filter off as soon as its link is dropped.
fn keep(
    program: &mut SchedClassifier,
    id: aya::programs::tc::SchedClassifierLinkId,
    device: &Device,
) -> Result<()> {
    let link = program.take_link(id).context(format!("attach clsact to {}", device.name))?;
    std::mem::forget(link);
    Ok(())
}

/// Makes the qdisc if there is none; whether it did.
fn ensure_qdisc(pins: &Pins, slot: u16, device: &Device) -> Result<bool> {
    let qdiscs = netlink(async |handle| qdiscs(&handle).await)?;
    let kind = qdiscs.into_iter().find(|(at, _)| *at == index(device)).map(|(_, kind)| kind);
    let marker = pins.qdisc(slot);
    match kind.as_deref() {
        Some("clsact") => {
            for place in Place::CLSACT {
                if is_attached(pins, slot, device, place)? {
                    return Ok(false);
                }
            }
            // If we made one, that was on an earlier device.
            forget_qdisc(pins, slot).map(|()| false)
        }
        Some(kind) => Err(DataplaneError::new(
            format!("attach clsact to {}: its {kind} qdisc is in the way", device.name),
            format!(
                "`tc qdisc del dev {} {kind}` takes it off, with the filters in it",
                device.name
            ),
        )),
        None => {
            fs::create_dir_all(&marker).context(format!("create {}", marker.display()))?;
            if let Err(error) = qdisc_add_clsact(&device.name) {
                forget_qdisc(pins, slot)?;
                return Err(refusal::clsact(device, &error));
            }
            Ok(true)
        }
    }
}

fn forget_qdisc(pins: &Pins, slot: u16) -> Result<()> {
    let marker = pins.qdisc(slot);
    match fs::remove_dir(&marker) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(format!("remove {}", marker.display()))
        }
        _ => Ok(()),
    }
}

/// Whether a place's program hangs on a device.
pub(super) fn is_attached(pins: &Pins, slot: u16, device: &Device, place: Place) -> Result<bool> {
    Ok(find(pins, slot, device, place)?.is_some())
}

/// The filter of somebody else that is asked before ours, in words.
pub(super) fn precedes(
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

/// Takes the filters of a slot off, in whichever network namespace they are, and the qdisc with
/// them if it is our own making and nothing else is in it.
pub(super) fn detach(pins: &Pins, slot: u16) -> Result<()> {
    Place::CLSACT.into_iter().try_for_each(|place| detach_place(pins, slot, place))
}

/// The same for one place.
pub(super) fn detach_place(pins: &Pins, slot: u16, place: Place) -> Result<()> {
    let programs = programs(pins, slot, place)?;
    if programs.is_empty() {
        return Ok(());
    }
    let ours = pins.qdisc(slot).exists();
    let search = || netlink(async |handle| take_off(&handle, place, &programs, ours).await);
    // A named namespace comes second: only there do we need the privilege to enter it.
    if !search()? {
        for name in netns::named() {
            if netns::within(Some(&name), search)? {
                break;
            }
        }
    }
    pins::remove(&pins.next_program(slot, place))?;
    pins::remove(&pins.program(slot, place))?;
    if !Place::CLSACT.into_iter().any(|place| pins.program(slot, place).exists()) {
        forget_qdisc(pins, slot)?;
    }
    Ok(())
}

/// Takes the filter with one of these programs off; whether there is one in this namespace.
async fn take_off(handle: &Handle, place: Place, programs: &[u32], ours: bool) -> Result<bool> {
    for (at, _) in qdiscs(handle).await? {
        let filters = filters(handle, at, place).await?;
        let meant = |filter: &&Filter| filter.program.is_some_and(|id| programs.contains(&id));
        let Some(filter) = filters.iter().find(meant) else { continue };
        let name = name(handle, at).await?;
        let link = SchedClassifierLink::attached(
            &name,
            direction(place),
            filter.preference,
            filter.handle.into(),
            None,
        );
        let link = link.context(format!("open the filter of {name}"))?;
        aya::programs::links::Link::detach(link).context(format!("take the filter off {name}"))?;
        if ours {
            remove_empty_qdisc(handle, at).await?;
        }
        return Ok(true);
    }
    Ok(false)
}

/// The filter that has a place's pinned program, on this device.
fn find(pins: &Pins, slot: u16, device: &Device, place: Place) -> Result<Option<Filter>> {
    let programs = programs(pins, slot, place)?;
    if programs.is_empty() {
        return Ok(None);
    }
    let mut filters = list(device, place)?.into_iter();
    Ok(filters.find(|filter| filter.program.is_some_and(|id| programs.contains(&id))))
}

/// The numbers of the pinned programs of a place: two only after a command that did not end.
fn programs(pins: &Pins, slot: u16, place: Place) -> Result<Vec<u32>> {
    let pins = [pins.program(slot, place), pins.next_program(slot, place)];
    pins.iter().filter_map(|path| pinned(path).transpose()).collect()
}

fn pinned(path: &std::path::Path) -> Result<Option<u32>> {
    if !path.exists() {
        return Ok(None);
    }
    let info = ProgramInfo::from_pin(path).context(format!("open program {}", path.display()))?;
    Ok(Some(info.id()))
}
