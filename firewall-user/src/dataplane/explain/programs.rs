//! The programs of explaining runs: those of one interface and direction, loaded but not attached.

use std::collections::BTreeMap;

use aya::util::nr_cpus;
use firewall_ebpf::abi::counter::counter_index;
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::wire::slice::HostPacket;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::explain::keys::Keys;
use crate::dataplane::explain::lines::Lines;
use crate::dataplane::explain::tables::OwnTables;
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::hooks::load::Settings;
use crate::dataplane::tables::interface::InterfaceTables;
use crate::dataplane::tables::maps::Maps;

mod loaded;

use loaded::Loaded;

/// Bytes of the longest frame that can be run: a page without the room that a test run needs for headers before it and
/// for `skb_shared_info` after it (`bpf_test_init`, net/bpf/test_run.c), rounded down.
#[must_use]
pub const fn longest_frame() -> usize {
    3400
}

/// What a run decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether the program returned that the packet passes: also a packet that is dropped, in audit mode.
    pub passes: bool,
    /// The reason that it counted.
    pub reason: Reason,
    /// The word of the policy, as it was right before the run.
    pub active: Active,
    /// The numbers of the rule, ACL entry or block at which it counted the packet: none, or one or two.
    pub counted: Vec<u32>,
    /// The flow of the frame's key before the run, if there was one.
    pub before: Option<FlowEntry>,
    /// That after it.
    pub after: Option<FlowEntry>,
}

/// A frame could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel's test run takes no such frame: one of less than 14 bytes, one that is too long, or one that ends
    /// within an IP header.
    #[error("a test run of the kernel takes no frame like this one of {0} bytes")]
    Frame(usize),
    /// Any other failure.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
}

/// The programs of an interface, both directions, and their tables.
pub struct ExplainPrograms {
    settings: Settings,
    half: u8,
    receive: Hook,
    tables: OwnTables,
    /// Of the interface.
    from: InterfaceTables,
    /// By direction; loaded when the first packet of it is run.
    loaded: [Option<Loaded>; 2],
    /// Rules, ACL entries and blocks by the index of their counter.
    numbers: BTreeMap<u32, u32>,
    cpus: usize,
}

impl std::fmt::Debug for ExplainPrograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExplainPrograms").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ExplainPrograms {
    /// Prepares the programs of an interface with these settings, `receive` being the hook of its received packets.
    ///
    /// # Errors
    /// The interface has no tables, or the kernel refuses a table.
    pub fn new(maps: &Maps, settings: Settings, receive: Hook) -> Result<Self> {
        let slot = settings.slot;
        let from = maps.interface_tables(slot)?.ok_or_else(|| {
            DataplaneError::new(
                format!("slot {slot} has no tables of flows"),
                "run `secgroup reconcile`",
            )
        })?;
        let (_, half) = maps.loaded(slot)?;
        let cpus = nr_cpus().map_err(|(_, error)| error).context("count CPUs")?;
        Ok(Self {
            settings,
            half,
            receive,
            tables: OwnTables::new()?,
            from,
            loaded: [None, None],
            numbers: maps.numbers_by_index()?,
            cpus,
        })
    }

    /// Whether the interface's frames start with an Ethernet header.
    #[must_use]
    pub const fn has_ethernet(&self) -> bool {
        self.settings.has_ethernet
    }

    /// Which way packets pass the device.
    #[must_use]
    pub const fn orientation(&self) -> Orientation {
        self.settings.orientation
    }

    /// Whether these are the programs of what is attached now: `attach` gives an interface other settings, or other
    /// tables, and then other programs.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn are_current(&self, maps: &Maps) -> Result<bool> {
        let (_, half) = maps.loaded(self.settings.slot)?;
        let tables = maps.interface_tables(self.settings.slot)?;
        Ok(half == self.half && tables.map(|now| now.ids()).transpose()? == Some(self.from.ids()?))
    }

    /// Reads the numbers of rules, entries and blocks again, after the policy has changed.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn read_numbers(&mut self, maps: &Maps) -> Result<()> {
        self.numbers = maps.numbers_by_index()?;
        Ok(())
    }

    /// The flow of a frame as it is in the interface's tables now, without a run.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn flow(&mut self, frame: &[u8], direction: Direction) -> Result<Option<FlowEntry>> {
        let keys = self.keys(frame, direction);
        self.tables.copy(&self.from, &keys)?;
        let own = keys.flows.first().filter(|_| keys.has_own);
        own.map_or(Ok(None), |key| self.tables.flow(*key))
    }

    /// Runs a frame. Flows that earlier runs have made or changed are there until [`Self::forget`], so that the
    /// reply to a packet finds the packet's flow.
    ///
    /// # Errors
    /// The programs cannot be loaded or run, or the kernel runs no such frame.
    pub fn run(
        &mut self,
        maps: &Maps,
        frame: &[u8],
        direction: Direction,
    ) -> std::result::Result<Run, RunError> {
        let keys = self.keys(frame, direction);
        let own = keys.flows.first().copied().filter(|_| keys.has_own);
        self.tables.copy(&self.from, &keys)?;
        let before = own.map_or(Ok(None), |key| self.tables.flow(key))?;
        let slot = self.settings.slot;
        let active = maps.active(slot)?;
        let cpus = self.cpus;
        self.load(maps, direction)?;
        let Some(loaded) = &mut self.loaded[direction as usize] else {
            return Err(DataplaneError::new("load the programs of a test run", "").into());
        };
        let passes = loaded.run(frame)?;
        let reason = loaded.reason(counter_index(slot, direction, 0), cpus)?;
        let counted = loaded.counted_rules(&self.numbers);
        let after = own.map_or(Ok(None), |key| self.tables.flow(key))?;
        Ok(Run { passes, reason, active, counted, before, after })
    }

    /// Removes all flows that runs have copied, made or changed.
    ///
    /// # Errors
    /// A table cannot be written.
    pub fn forget(&mut self) -> Result<()> {
        self.tables.clear()
    }

    /// The lines of the program that prints what the parser finds in a frame, which was decided so.
    ///
    /// # Errors
    /// The program cannot be loaded or run.
    pub fn lines(
        &mut self,
        maps: &Maps,
        frame: &[u8],
        (direction, reason): (Direction, Reason),
    ) -> Result<Vec<String>> {
        self.load(maps, direction)?;
        let Some(Loaded { object, lines, .. }) = &mut self.loaded[direction as usize] else {
            return Ok(Vec::new());
        };
        let reader = match lines {
            Some(reader) => reader,
            None => lines.insert(Lines::open(object)?),
        };
        reader.of(object, frame, (direction, reason))
    }

    fn keys(&self, frame: &[u8], direction: Direction) -> Keys {
        let packet =
            HostPacket { has_ethernet: self.settings.has_ethernet, ..HostPacket::ethernet(frame) };
        Keys::of(&packet, direction, self.settings.slot)
    }

    fn load(&mut self, maps: &Maps, direction: Direction) -> Result<()> {
        if self.loaded[direction as usize].is_none() {
            let loaded = Loaded::open(maps, &self.settings, (self.half, self.receive), direction)?;
            self.tables.show(&loaded.object, self.settings.slot)?;
            self.loaded[direction as usize] = Some(loaded);
        }
        Ok(())
    }
}
