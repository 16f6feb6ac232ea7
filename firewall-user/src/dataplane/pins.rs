//! Where the kernel keeps our maps, programs and links while no process of ours runs.
//!
//! ```text
//! <pin-dir>/v<ABI_VERSION>/maps/<NAME>          shared by all interfaces
//!                         /programs/<slot>_<place>, clock, reap_v4, ...
//!                         /links/<slot>_<place>
//!                         /qdiscs/<slot>                a clsact qdisc that we made
//!                         /tables/<slot>_<bank>_<NAME>   the policy of one interface
//! ```
//!
//! They are made in `<pin-dir>/partial` and removed in `<pin-dir>/removed`: a process that is killed
//! halfway leaves no half set of maps that anyone would take for a whole one.
//!
//! A filter of clsact has no link: what its program is pinned as finds it (`clsact`).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use firewall_ebpf::limits::ABI_VERSION;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::{clsact, sys};

/// The places of an interface where a program can hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// XDP on receive.
    Xdp,
    /// TCX on receive.
    Receive,
    /// TCX on transmit.
    Transmit,
    /// A filter of clsact on receive.
    ClsactReceive,
    /// A filter of clsact on transmit.
    ClsactTransmit,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Xdp, Self::Receive, Self::Transmit, Self::ClsactReceive, Self::ClsactTransmit];

    /// Those without a link.
    pub(super) const CLSACT: [Self; 2] = [Self::ClsactReceive, Self::ClsactTransmit];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Receive => "rx",
            Self::Transmit => "tx",
            Self::ClsactReceive => "clsact_rx",
            Self::ClsactTransmit => "clsact_tx",
        }
    }
}

/// Where pins are made until they are all there.
const PARTIAL: &str = "partial";

/// Where they go all at once to be removed.
const REMOVED: &str = "removed";

/// The pin directory of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    /// The directory in it.
    version: String,
}

impl Pins {
    /// Pins under `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), version: format!("v{ABI_VERSION}") }
    }

    /// The directory that the user named.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of this version's pins.
    #[must_use]
    pub fn version_dir(&self) -> PathBuf {
        self.root.join(&self.version)
    }

    /// The same pins where nobody takes them for those of this version yet, or still.
    fn partial(&self) -> Self {
        Self { root: self.root.clone(), version: PARTIAL.to_owned() }
    }

    /// The pin of a map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.version_dir().join("maps").join(name)
    }

    /// The pin of a table of one interface's policy.
    #[must_use]
    pub fn table(&self, slot: u16, bank: u32, name: &str) -> PathBuf {
        self.version_dir().join("tables").join(format!("{slot}_{bank}_{name}"))
    }

    /// The pin of an interface's program.
    #[must_use]
    pub fn program(&self, slot: u16, place: Place) -> PathBuf {
        self.version_dir().join("programs").join(format!("{slot}_{}", place.suffix()))
    }

    /// The pin of the program that tells the kernel's time.
    #[must_use]
    pub fn clock(&self) -> PathBuf {
        self.version_dir().join("programs").join("clock")
    }

    /// The pin of the program that sets the bits of flows of a family.
    #[must_use]
    pub fn note(&self, is_v6: bool) -> PathBuf {
        let name = if is_v6 { "note_v6" } else { "note_v4" };
        self.version_dir().join("programs").join(name)
    }

    /// The pin of the program that removes dead flows of a family.
    #[must_use]
    pub fn reap(&self, is_v6: bool) -> PathBuf {
        let name = if is_v6 { "reap_v6" } else { "reap_v4" };
        self.version_dir().join("programs").join(name)
    }

    /// The pin of the program that answers questions about tables of a family.
    #[must_use]
    pub fn probe(&self, is_v6: bool) -> PathBuf {
        let name = if is_v6 { "probe_v6" } else { "probe_v4" };
        self.version_dir().join("programs").join(name)
    }

    /// The pin of an interface's link.
    #[must_use]
    pub fn link(&self, slot: u16, place: Place) -> PathBuf {
        self.version_dir().join("links").join(format!("{slot}_{}", place.suffix()))
    }

    /// Where a program waits that is about to take the place of [`Self::program`].
    #[must_use]
    pub(super) fn next_program(&self, slot: u16, place: Place) -> PathBuf {
        self.version_dir().join("programs").join(format!("{slot}_{}_next", place.suffix()))
    }

    /// A directory that is there if the clsact qdisc of an interface's device is our own making.
    #[must_use]
    pub(super) fn qdisc(&self, slot: u16) -> PathBuf {
        self.version_dir().join("qdiscs").join(slot.to_string())
    }

    /// Whether anything of this version is pinned.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.version_dir().join("maps").is_dir()
    }

    /// The slots that have a link or a program, whatever the store says.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn attached_slots(&self) -> Result<Vec<u16>> {
        let mut slots = Vec::new();
        for part in ["links", "programs"] {
            let dir = self.version_dir().join(part);
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.context(format!("list {}", dir.display()))?,
            };
            let names = entries.flatten().map(|entry| entry.file_name());
            slots.extend(
                names.filter_map(|name| name.to_str()?.split('_').next()?.parse::<u16>().ok()),
            );
        }
        slots.sort_unstable();
        slots.dedup();
        Ok(slots)
    }

    /// Refuses pins of another version, which another build of secgroup would have to remove.
    ///
    /// # Errors
    /// There are some; the hint says what to do.
    pub fn refuse_other_versions(&self) -> Result<()> {
        let current = format!("v{ABI_VERSION}");
        let Ok(entries) = fs::read_dir(&self.root) else { return Ok(()) };
        let other = entries
            .flatten()
            .map(|entry| entry.file_name())
            .find(|name| is_version(name) && *name != *current);
        other.map_or(Ok(()), |name| {
            let dir = self.root.join(name);
            Err(DataplaneError::new(
                format!(
                    "pins of another version in {} (this build has version {ABI_VERSION})",
                    dir.display()
                ),
                format!(
                    "they still enforce: `rm -r {}` ends that, and `secgroup reconcile` right after \
                     it starts anew from what is stored; or go on with the build that made them",
                    dir.display()
                ),
            ))
        })
    }

    /// Makes the directories and lets `fill` pin what belongs into them: all of it is there
    /// afterwards, or nothing, also if the process is killed meanwhile.
    ///
    /// # Errors
    /// The place is not in a BPF file system, or not writable, or what `fill` says.
    pub fn create(&self, fill: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        self.require_bpffs()?;
        let partial = self.partial();
        let from = partial.version_dir();
        let fill = || {
            remove_tree(&from)?;
            for part in ["maps", "programs", "links", "tables"] {
                let dir = from.join(part);
                fs::create_dir_all(&dir).context(format!("create {}", dir.display()))?;
            }
            fill(&partial)?;
            // Without its maps nothing that may be there is of any use.
            self.remove_version()?;
            fs::rename(&from, self.version_dir()).context(format!("rename {}", from.display()))
        };
        fill().inspect_err(|_| {
            // What goes wrong is told by the first error.
            let _ = remove_tree(&from);
            let _ = fs::remove_dir(&self.root);
        })
    }

    /// Removes what is left of this version, and the root if nothing else is in it. Enforcement
    /// ends with the links.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_all(&self) -> Result<()> {
        remove_tree(&self.partial().version_dir())?;
        self.remove_version()?;
        // Not empty (another version's pins), or not ours to remove: either is fine.
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }

    fn remove_version(&self) -> Result<()> {
        let dir = self.version_dir();
        // At once: the kernel frees pins some time later, and until then the programs would go on.
        for link in fs::read_dir(dir.join("links")).into_iter().flatten().flatten() {
            let path = link.path();
            sys::detach_link(&path).context(format!("detach link {}", path.display()))?;
        }
        self.attached_slots()?.into_iter().try_for_each(|slot| clsact::detach(self, slot))?;
        let removed = self.root.join(REMOVED);
        remove_tree(&removed)?;
        match fs::rename(&dir, &removed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(format!("rename {}", dir.display()))
            }
            _ => remove_tree(&removed),
        }
    }

    /// Refuses a place where nothing can be pinned, or where pins are out of sight.
    ///
    /// # Errors
    /// Neither the root nor the nearest directory above it that exists is in a BPF file system.
    pub fn require_bpffs(&self) -> Result<()> {
        let existing = self.root.ancestors().find(|path| path.exists());
        let is_bpffs = existing
            .and_then(|path| statfs(path).ok())
            .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
        if is_bpffs {
            return Ok(());
        }
        Err(DataplaneError::new(
            format!("pin directory {}: not in a BPF file system", self.root.display()),
            "mount one with `mount -t bpf bpf /sys/fs/bpf`; inside `ip netns exec` the real one is \
             hidden: stay outside and use --netns, or enter with `nsenter --net=/var/run/netns/NAME`",
        ))
    }
}

fn is_version(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.strip_prefix('v'))
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes a directory with all that is in it; that there is none is fine.
fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Removes one pin; that there is none is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(format!("remove pin {}", path.display()))
        }
        _ => Ok(()),
    }
}
