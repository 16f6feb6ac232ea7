//! Everything that one instance has pinned, as a whole: created at once and removed at once.

use std::fs;
use std::io::ErrorKind;

use firewall_ebpf::abi::limits::ABI_VERSION;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::hooks::detach::detach_all;
use crate::dataplane::host::bpffs;
use crate::dataplane::object::shapes::Sizes;
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::unpin::remove_tree;
use crate::dataplane::tables::create::create;
use crate::dataplane::tables::maps::Maps;
use crate::ownership;

/// Whether the instance exists in the kernel: this version's maps are pinned.
#[must_use]
pub fn exists(pins: &Pins) -> bool {
    pins.maps_dir().is_dir()
}

/// The maps; `None` if the instance does not exist in the kernel.
///
/// # Errors
/// They are another version's, damaged, or may not be opened; or somebody else can change their directory.
pub fn open(pins: &Pins) -> Result<Option<Maps>> {
    require_ours(pins)?;
    refuse_other_versions(pins)?;
    exists(pins).then(|| Maps::open(pins)).transpose()
}

/// The maps, created if they do not exist.
///
/// # Errors
/// The pin directory is not usable, holds another version's pins, or the kernel refuses a map.
pub fn ensure_maps(pins: &Pins, sizes: &Sizes) -> Result<Maps> {
    if let Some(maps) = open(pins)? {
        return Ok(maps);
    }
    bpffs::require(pins)?;
    create_all(pins, sizes).inspect_err(|_| {
        // The first error is the one to report.
        let _ = remove_tree(&pins.partial().version_dir());
        let _ = fs::remove_dir(pins.root());
    })?;
    Maps::open(pins)
}

/// Refuses directories of pins that somebody else can change: who owns one may rename what is pinned in it,
/// and a command would find nothing, or the wrong thing. The root of a BPF file system may be open to
/// all, as it is by default, if it is sticky (mode 1777).
///
/// # Errors
/// Somebody else can, or this user may not see them.
fn require_ours(pins: &Pins) -> Result<()> {
    let below = [pins.version_dir(), pins.partial().version_dir(), pins.removed().version_dir()];
    let directories = [pins.root().to_owned()].into_iter().chain(below).chain(pins.directories());
    directories.into_iter().try_for_each(|dir| Ok(ownership::require_directory(&dir)?))
}

/// Refuses the pins of another version, which only another build of secgroup could use.
///
/// # Errors
/// There are some; the hint says what to do.
pub fn refuse_other_versions(pins: &Pins) -> Result<()> {
    let Ok(entries) = fs::read_dir(pins.root()) else { return Ok(()) };
    let is_other = |name: &str| Pins::version_of(name).is_some_and(|found| found != ABI_VERSION);
    let mut names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.find(|name| is_other(name)).map_or(Ok(()), |name| {
        let dir = pins.root().join(name);
        Err(DataplaneError::new(
            format!(
                "pins of another version in {} (this build has version {ABI_VERSION})",
                dir.display()
            ),
            format!(
                "they still enforce: `rm -r {}` removes them, and `secgroup reconcile` right after it \
                 enforces the store again; in between every packet passes, or with clsact no new \
                 connection; or use the build that created them",
                dir.display()
            ),
        ))
    })
}

/// Pins the complete set, or nothing, also if the process is killed meanwhile.
fn create_all(pins: &Pins, sizes: &Sizes) -> Result<()> {
    let partial = pins.partial();
    let from = partial.version_dir();
    ownership::create_directory(pins.root())?;
    remove_tree(&from)?;
    for dir in partial.directories() {
        ownership::create_directory(&dir)?;
    }
    create(&partial, sizes)?;
    // Without its maps, nothing that an older set may have left is of any use.
    remove_version(pins)?;
    fs::rename(&from, pins.version_dir()).context(format_args!("rename {}", from.display()))
}

/// Removes what is left of this version, and the root if nothing else is in it. Enforcement ends
/// with the links.
///
/// # Errors
/// A program cannot be detached, or a pin cannot be removed.
pub fn remove_all(pins: &Pins) -> Result<()> {
    remove_tree(&pins.partial().version_dir())?;
    remove_version(pins)?;
    // It stays if it is not empty (another version's pins) or may not be removed.
    let _ = fs::remove_dir(pins.root());
    Ok(())
}

fn remove_version(pins: &Pins) -> Result<()> {
    // At once: the kernel frees pins some time later, and until then the programs would keep running.
    detach_all(pins)?;
    let (dir, removed) = (pins.version_dir(), pins.removed().version_dir());
    remove_tree(&removed)?;
    match fs::rename(&dir, &removed) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context(format_args!("rename {}", dir.display())),
        Ok(()) => remove_tree(&removed),
    }
}
