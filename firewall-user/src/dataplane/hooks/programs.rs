//! The programs that run on a device: whether a link still runs ours, and programs of this project whose pins
//! are not in the pin directory.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aya::maps::MapInfo;
use aya::programs::ProgramInfo;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::hooks::filters::{client, index, known_filters};
use crate::dataplane::hooks::links::attached_link;
use crate::dataplane::hooks::orphans;
use crate::dataplane::host::device::Device;
use crate::dataplane::host::{netns, preflight};
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::sys::links;
use crate::dataplane::sys::programs::{LoadedProgram, by_id};

/// How the names of this project's programs begin.
const PREFIX: &str = "sg_";

/// A map that every program of an instance uses.
const SHARED_MAP: &str = "ACTIVE";

/// How often, and how long in between, programs are looked for before an attach is refused: those of links
/// whose pins were removed stay on the device for some milliseconds.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// A program of this project on a device, of which the pin directory has no pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpinned {
    /// Its id in the kernel.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Where it is attached: `xdp`, `tcx ingress`, `clsact egress` and so on.
    pub place: &'static str,
}

impl fmt::Display for Unpinned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (id {}, {})", self.name, self.id, self.place)
    }
}

/// Whether the pinned link of a place is attached to this device and runs a program of ours. Another process
/// can put its own program into a link.
pub(super) fn runs(pins: &Pins, slot: u16, place: Place, device: &Device) -> Result<bool> {
    if attached_link(pins, slot, place, device)?.is_none() {
        return Ok(false);
    }
    let pin = pins.link(slot, place);
    let link = links::attachment(&pin).context(format_args!("open link {}", pin.display()))?;
    let running = link.program;
    // A command that replaces a program pins it only afterwards: then the name tells.
    Ok(pinned_id(&pins.program(slot, place)) == Some(running)
        || by_id(running).map_or(true, |program| is_ours(&program)))
}

/// The programs of this project on a device of which the pin directory has no pin: it is of another instance,
/// another BPF file system is mounted over it, or the pins were removed. `is_attached`: the interface's own
/// programs are attached, and may be in replacement.
///
/// # Errors
/// The device's filters cannot be listed.
pub fn unpinned(pins: &Pins, device: &Device, is_attached: bool) -> Result<Vec<Unpinned>> {
    netns::within(device.netns.as_deref(), || unpinned_here(pins, device, is_attached))
}

/// Refuses a device that has such programs already: a second set would double every decision, and the first
/// would stay when the second is detached. Those without a slow path are replaced (`orphans`).
pub(super) fn refuse_unpinned(pins: &Pins, device: &Device) -> Result<()> {
    let mut found = Vec::new();
    for attempt in 0..ATTEMPTS {
        found = unpinned_here(pins, device, false)?;
        found.retain(|one| !orphans::is_orphan(one.id));
        if found.is_empty() {
            return Ok(());
        }
        if attempt + 1 < ATTEMPTS {
            thread::sleep(PAUSE);
        }
    }
    Err(DataplaneError::new(
        format!("device {} has programs of secgroup already: {}", device.label(), list(&found)),
        hint(pins),
    ))
}

/// Refuses a device that has such programs, before a command changes what is enforced.
///
/// # Errors
/// The device has such programs, or cannot be read.
pub fn require_none(pins: &Pins, device: &Device) -> Result<()> {
    netns::within(device.netns.as_deref(), || refuse_unpinned(pins, device))
}

/// What to do about programs without pins.
#[must_use]
pub fn hint(pins: &Pins) -> String {
    let root = pins.root().display();
    format!(
        "they enforce, but have no pins in {root}: if `findmnt {root}` or `findmnt /sys/fs/bpf` shows another \
         BPF file system over theirs, unmount it; if another instance attached them, name its --pin-dir"
    )
}

/// The programs in one line.
#[must_use]
pub fn list(programs: &[Unpinned]) -> String {
    programs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn unpinned_here(pins: &Pins, device: &Device, is_attached: bool) -> Result<Vec<Unpinned>> {
    let mut found = on_device(device)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Of every slot: the device may have the programs of another interface. A command that was killed may have
    // pinned a link and not yet its program.
    let mut pinned: Vec<u32> =
        files(&pins.programs_dir())?.iter().filter_map(|path| pinned_id(path)).collect();
    pinned.extend(files(&pins.links_dir())?.iter().filter_map(|path| linked(path)));
    let shared = MapInfo::from_pin(pins.map(SHARED_MAP)).ok().map(|map| map.id());
    found.retain(|(_, program)| {
        let is_of_this_instance = shared.is_some_and(|shared| program.maps.contains(&shared));
        !(pinned.contains(&program.id) || is_attached && is_of_this_instance)
    });
    let unpinned = |(place, LoadedProgram { id, name, .. })| Unpinned { id, name, place };
    Ok(found.into_iter().map(unpinned).collect())
}

/// Every program of this project on a device, with its place. Without CAP_SYS_ADMIN no program can be opened,
/// and none is found.
fn on_device(device: &Device) -> Result<Vec<(&'static str, LoadedProgram)>> {
    let mut ids = Vec::new();
    ids.extend(device.xdp_program.map(|id| ("xdp", id)));
    if preflight::has_tcx() {
        for (place, is_egress) in [("tcx ingress", false), ("tcx egress", true)] {
            // It fails for a device that was removed meanwhile.
            let programs = links::on_tcx(device.index, is_egress).unwrap_or_default();
            ids.extend(programs.into_iter().map(|(id, _)| (place, id)));
        }
    }
    let client = client()?;
    let clsact =
        [("clsact ingress", Place::ClsactReceive), ("clsact egress", Place::ClsactTransmit)];
    for (place, of) in clsact {
        let filters = known_filters(&client, index(device), of)?;
        ids.extend(filters.into_iter().filter_map(|filter| Some((place, filter.program?))));
    }
    let programs = ids.into_iter().filter_map(|(place, id)| Some((place, by_id(id).ok()?)));
    Ok(programs.filter(|(_, program)| is_ours(program)).collect())
}

/// The files of a directory; none if it does not exist.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(format_args!("list {}", dir.display()))?,
    };
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn is_ours(program: &LoadedProgram) -> bool {
    program.name.starts_with(PREFIX)
}

fn pinned_id(path: &Path) -> Option<u32> {
    path.exists().then(|| ProgramInfo::from_pin(path).ok()).flatten().map(|info| info.id())
}

fn linked(path: &Path) -> Option<u32> {
    Some(path.exists().then(|| links::attachment(path).ok()).flatten()?.program)
}
