//! The paths of the pinned maps, programs and links, which outlive every process.
//!
//! ```text
//! <pin-dir>/abi<ABI_VERSION>/maps/<NAME>             shared by all interfaces
//!                           /programs/<slot>_<place>, clock, expire_v4, ...
//!                           /links/<slot>_<place>
//!                           /qdiscs/<slot>           a clsact qdisc that secgroup created
//!                           /tables/<slot>_<bank>_<NAME>   the policy of one interface
//!                                  /filter_<number>_<NAME>  a filter, of one interface or several
//!                                  /blocks_<bank>_<NAME>    the blocks of the host
//!                           /flows/<slot>_<NAME>     flows and fragments of one interface
//! ```
//!
//! They are created in `<pin-dir>/partial` and removed in `<pin-dir>/removed`: a process that is
//! killed halfway leaves no incomplete set under the name of a complete one.
//!
//! A clsact filter has no link: it is found by the id of its pinned program.

use std::path::{Path, PathBuf};

use firewall_ebpf::abi::limits::ABI_VERSION;

/// The places of an interface where a program can be attached.
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

/// What a directory of pins is called before its version number.
const VERSION_PREFIX: &str = "abi";

/// What a table of a filter is called before the filter's number.
const FILTER_PREFIX: &str = "filter_";

/// Where pins are created until the set is complete.
const PARTIAL: &str = "partial";

/// Where they are moved at once to be removed.
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
        Self { root: root.into(), version: format!("{VERSION_PREFIX}{ABI_VERSION}") }
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

    /// The version number of a directory of pins, of this version or another; `None` for the name of
    /// anything else.
    pub(super) fn version_of(name: &str) -> Option<u32> {
        name.strip_prefix(VERSION_PREFIX)?.parse().ok()
    }

    /// The hint where pins do not fit this build.
    pub(super) fn hint_to_recreate(&self) -> String {
        let dir = self.version_dir();
        format!(
            "the pins are not of this build: `rm -r {}` removes them, and `secgroup reconcile` right after \
             it enforces the store again; in between every packet passes, or with clsact no new connection",
            dir.display()
        )
    }

    /// The same pins while the set is not complete.
    pub(super) fn partial(&self) -> Self {
        Self { root: self.root.clone(), version: PARTIAL.to_owned() }
    }

    /// The same pins while they are being removed.
    pub(super) fn removed(&self) -> Self {
        Self { root: self.root.clone(), version: REMOVED.to_owned() }
    }

    /// The directories that a complete set has.
    pub(super) fn directories(&self) -> [PathBuf; 5] {
        let (tables, flows) = (self.tables_dir(), self.flows_dir());
        [self.maps_dir(), self.programs_dir(), self.links_dir(), tables, flows]
    }

    /// The directory of the maps; it exists where a set is complete.
    pub(super) fn maps_dir(&self) -> PathBuf {
        self.version_dir().join("maps")
    }

    /// The directory of the programs.
    pub(super) fn programs_dir(&self) -> PathBuf {
        self.version_dir().join("programs")
    }

    /// The directory of the links.
    pub(super) fn links_dir(&self) -> PathBuf {
        self.version_dir().join("links")
    }

    /// The directory of the tables of policies, filters and blocks.
    pub(super) fn tables_dir(&self) -> PathBuf {
        self.version_dir().join("tables")
    }

    /// The directory of the tables of flows.
    pub(super) fn flows_dir(&self) -> PathBuf {
        self.version_dir().join("flows")
    }

    /// The pin of an interface's table of flows or fragments.
    #[must_use]
    pub fn flows(&self, slot: u16, name: &str) -> PathBuf {
        self.flows_dir().join(format!("{slot}_{name}"))
    }

    /// The pin of a map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps_dir().join(name)
    }

    /// The pin of a table of one interface's policy.
    #[must_use]
    pub fn table(&self, slot: u16, bank: u32, name: &str) -> PathBuf {
        self.tables_dir().join(format!("{slot}_{bank}_{name}"))
    }

    /// The pin of a table of a filter.
    #[must_use]
    pub fn filter_table(&self, filter: u16, name: &str) -> PathBuf {
        self.tables_dir().join(format!("{FILTER_PREFIX}{filter}_{name}"))
    }

    /// The filter that a file in the directory of tables belongs to; `None` for any other table.
    pub(super) fn filter_of(name: &str) -> Option<u16> {
        name.strip_prefix(FILTER_PREFIX)?.split('_').next()?.parse().ok()
    }

    /// The pin of a trie of the blocks of the host.
    #[must_use]
    pub fn blocks_table(&self, bank: u32, name: &str) -> PathBuf {
        self.tables_dir().join(format!("blocks_{bank}_{name}"))
    }

    /// The pin of an interface's program.
    #[must_use]
    pub fn program(&self, slot: u16, place: Place) -> PathBuf {
        self.programs_dir().join(format!("{slot}_{}", place.suffix()))
    }

    /// The pin of a program that is about to replace [`Self::program`].
    #[must_use]
    pub(super) fn next_program(&self, slot: u16, place: Place) -> PathBuf {
        self.programs_dir().join(format!("{slot}_{}_next", place.suffix()))
    }

    /// The pin of an interface's link.
    #[must_use]
    pub fn link(&self, slot: u16, place: Place) -> PathBuf {
        self.links_dir().join(format!("{slot}_{}", place.suffix()))
    }

    /// A directory that exists if secgroup created the clsact qdisc of an interface's device.
    #[must_use]
    pub(super) fn qdisc(&self, slot: u16) -> PathBuf {
        self.version_dir().join("qdiscs").join(slot.to_string())
    }

    /// The slot in the name of a link or of an interface's program; `None` for a helper program.
    pub(super) fn slot_of(name: &str) -> Option<u16> {
        name.split('_').next()?.parse().ok()
    }

    /// The pin of the helper program that reads the kernel's clock.
    #[must_use]
    pub fn clock(&self) -> PathBuf {
        self.programs_dir().join("clock")
    }

    /// The pin of the helper program that sets the Bloom filter's bits for flows of a family.
    #[must_use]
    pub fn bloom_insert(&self, is_v6: bool) -> PathBuf {
        self.helper("bloom_insert", is_v6)
    }

    /// The pin of the helper program that removes expired flows of a family.
    #[must_use]
    pub fn expire(&self, is_v6: bool) -> PathBuf {
        self.helper("expire", is_v6)
    }

    /// The pin of the helper program that looks up rules in the tables of a family.
    #[must_use]
    pub fn probe(&self, is_v6: bool) -> PathBuf {
        self.helper("probe", is_v6)
    }

    /// The pin of the helper program that looks up entries of filters in the tables of a family.
    #[must_use]
    pub fn probe_filter(&self, is_v6: bool) -> PathBuf {
        self.helper("probe_filter", is_v6)
    }

    /// The pin of the helper program that looks up blocks of a family.
    #[must_use]
    pub fn probe_blocks(&self, is_v6: bool) -> PathBuf {
        self.helper("probe_blocks", is_v6)
    }

    /// The pin of the helper program that makes policies and blocks active.
    #[must_use]
    pub fn set_active(&self) -> PathBuf {
        self.programs_dir().join("set_active")
    }

    /// The pin of the helper program that writes the records of cells.
    #[must_use]
    pub fn flush_records(&self) -> PathBuf {
        self.programs_dir().join("flush_records")
    }

    fn helper(&self, name: &str, is_v6: bool) -> PathBuf {
        self.programs_dir().join(format!("{name}_{}", if is_v6 { "v6" } else { "v4" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_named_after_the_version_of_the_layout() {
        let pins = Pins::new("/sys/fs/bpf/secgroup");
        let name = format!("abi{ABI_VERSION}");
        assert_eq!(pins.version_dir(), pins.root().join(&name));
        assert_eq!(Pins::version_of(&name), Some(ABI_VERSION));
        for other in ["abi", "abix", "partial", "removed", "v4"] {
            assert_eq!(Pins::version_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_table_of_a_filter_names_it() {
        let pins = Pins::new("/sys/fs/bpf/secgroup");
        let path = pins.filter_table(417, "CLASSES");
        assert_eq!(Pins::filter_of(path.file_name().unwrap().to_str().unwrap()), Some(417));
        for other in ["3_0_CLASSES", "blocks_0_V4", "filter_", "filter_x_CLASSES"] {
            assert_eq!(Pins::filter_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_pins_of_interfaces_have_a_slot() {
        for (name, slot) in [
            ("7_rx", Some(7)),
            ("12_clsact_tx_next", Some(12)),
            ("clock", None),
            ("set_active", None),
        ] {
            assert_eq!(Pins::slot_of(name), slot, "{name}");
        }
    }
}
