//! The programs of explaining runs: those of one interface and direction, loaded but not attached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use aya::maps::ProgramArray;
use aya::programs::{ProgramError, ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use firewall_ebpf::abi::counter::{Counter, counter_index, rule_stride};
use firewall_ebpf::abi::interface::{Direction, Orientation, settings_index, slow_path_index};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::reason::{REASON_SPACE, Reason};
use firewall_ebpf::wire::slice::HostPacket;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::explain::keys::Keys;
use crate::dataplane::explain::lines::Lines;
use crate::dataplane::explain::tables::OwnTables;
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::hooks::load::{Constants, Settings};
use crate::dataplane::object::shapes::SHAPES;
use crate::dataplane::object::{self, embedded, map_fd, missing};
use crate::dataplane::sys::entries;
use crate::dataplane::sys::mapped::Mapped;
use crate::dataplane::tables::interface::InterfaceTables;
use crate::dataplane::tables::maps::Maps;

/// The pinned maps that programs only read. Every other map of the object is one that they write, of which
/// explaining runs have their own.
const READ_ONLY: [&str; 13] = [
    "SETTINGS_OF",
    "RULE_INDEXES",
    "DEADLINES",
    "ACTIVE",
    "PREFIXES_V4",
    "PREFIXES_V6",
    "CLASSES",
    "RANGES",
    "FILTERS",
    "BLOCKING",
    "BLOCKS_V4",
    "BLOCKS_V6",
    "BLOOM_IN_USE",
];

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

/// The programs of one direction.
struct Loaded {
    object: Ebpf,
    /// Of received packets at XDP, else at TC.
    is_xdp: bool,
    program: &'static str,
    /// What its counters by rule have; the programs have one stripe of them.
    rules: Mapped,
    /// The packets of each reason that were counted so far.
    counted: Vec<u64>,
    lines: Option<Lines>,
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

impl Loaded {
    fn open(
        maps: &Maps,
        settings: &Settings,
        (half, receive): (u8, Hook),
        direction: Direction,
    ) -> Result<Self> {
        // The record that the attached programs have, which may be of settings before those of the store.
        let at = u32::from(settings_index(settings.slot, half));
        let record = maps.settings.get(&at, 0).context("read map SETTINGS_OF")?;
        let stride = rule_stride(maps.sizes.rules);
        let constants = Constants::new(settings, (half, &record), (1, stride)).of(direction);
        let mut object = open(maps, settings.slot, &constants)?;

        let is_received = settings.orientation.received() == direction;
        let is_xdp = is_received && matches!(receive, Hook::Xdp | Hook::XdpGeneric);
        let (program, slow, array) = match (is_received, is_xdp) {
            (_, true) => ("sg_xdp_rx", "sg_slow_xdp", "SLOW_XDP"),
            (true, false) => ("sg_tcx_rx", "sg_slow_tc", "SLOW_TC"),
            (false, false) => ("sg_tcx_tx", "sg_slow_tc", "SLOW_TC"),
        };
        load(&mut object, is_xdp, program)?;
        let slow = load(&mut object, is_xdp, slow)?;
        let map = object.map_mut(array).ok_or_else(|| missing(array))?;
        let mut programs: ProgramArray<_> =
            map.try_into().context(format_args!("open map {array}"))?;
        let at = slow_path_index(settings.slow_path(), direction);
        programs.set(at, &slow, 0).context(format_args!("write map {array}"))?;

        let words = usize::try_from(stride).unwrap_or(0) * WORDS;
        let rules = Mapped::new(map_fd(&object, "RULE_COUNTERS")?, words);
        let rules = rules.context("map RULE_COUNTERS of a test run")?;
        let counted = vec![0; REASON_SPACE as usize];
        Ok(Self { object, is_xdp, program, rules, counted, lines: None })
    }

    /// Runs a frame; returns whether it passes.
    fn run(&mut self, frame: &[u8]) -> std::result::Result<bool, RunError> {
        const XDP_PASS: u32 = 2;
        /// `TCX_NEXT`, which is -1.
        const TCX_NEXT: u32 = u32::MAX;
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let (result, pass) = if self.is_xdp {
            let program: &mut Xdp = object::program(&mut self.object, self.program)?;
            (program.test_run(options), XDP_PASS)
        } else {
            let program: &mut SchedClassifier = object::program(&mut self.object, self.program)?;
            (program.test_run(options), TCX_NEXT)
        };
        match result {
            Ok(result) => Ok(result.return_value == pass),
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                Err(RunError::Frame(frame.len()))
            }
            Err(error) => {
                let failed = Err(error).context(format_args!("run {}", self.program));
                failed.map_err(RunError::Dataplane)
            }
        }
    }

    /// The reason whose counter the last run has increased. `first` is the index of the direction's first counter.
    fn reason(&mut self, first: u32, cpus: usize) -> Result<Reason> {
        let fd = map_fd(&self.object, "COUNTERS")?;
        let values = entries::per_cpu::<Counter>(fd, (first, REASON_SPACE), cpus);
        let values = values.context("read map COUNTERS of a test run")?;
        let now = values.chunks(cpus).map(|of| of.iter().map(|one| one.packets).sum::<u64>());
        let mut found = None;
        for (number, (before, now)) in self.counted.iter_mut().zip(now).enumerate() {
            if *before != now {
                found = u8::try_from(number).ok().and_then(Reason::from_number);
                *before = now;
            }
        }
        found.ok_or_else(|| {
            DataplaneError::new(format!("test run of {}: it counted no reason", self.program), "")
        })
    }

    /// The rules, entries and blocks at which the last run has counted; their counters are zero afterwards.
    fn counted_rules(&self, numbers: &BTreeMap<u32, u32>) -> Vec<u32> {
        let counters = self.rules.words().as_chunks::<WORDS>().0;
        let mut found = BTreeSet::new();
        for (index, number) in numbers {
            let counter = usize::try_from(*index).ok().and_then(|index| counters.get(index));
            if let Some([packets, bytes]) = counter
                && packets.load(Relaxed) != 0
            {
                packets.store(0, Relaxed);
                bytes.store(0, Relaxed);
                found.insert(*number);
            }
        }
        found.into_iter().collect()
    }
}

/// Words of a [`Counter`].
const WORDS: usize = size_of::<Counter>() / size_of::<u64>();

/// Opens the object over the maps that programs only read, and with other maps of its own.
fn open(maps: &Maps, slot: u16, constants: &Constants) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    // No program refers to the kernel's types.
    loader.btf(None);
    for shape in SHAPES {
        if READ_ONLY.contains(&shape.name) {
            loader.map_pin_path(shape.name, maps.pins.map(shape.name));
        }
        let entries = match shape.name {
            // One stripe.
            "RULE_COUNTERS" => rule_stride(maps.sizes.rules),
            // The kernel allocates each entry of a per-CPU map. Indexes ascend with the slots.
            "COUNTERS" => counter_index(slot + 1, Direction::Ingress, 0),
            // Nothing is recorded, since nobody watches: a page.
            "RECORDS" => 4096,
            _ => maps.sizes.entries(shape.size),
        };
        loader.map_max_entries(shape.object_name(), entries);
    }
    constants.set(&mut loader);
    loader.load(embedded()?).context("open the kernel object")
}

fn load(object: &mut Ebpf, is_xdp: bool, name: &str) -> Result<ProgramFd> {
    let what = || format!("load {name} for a test run");
    let fd = if is_xdp {
        let program: &mut Xdp = object::program(object, name)?;
        program.load().context(what())?;
        program.fd()
    } else {
        let program: &mut SchedClassifier = object::program(object, name)?;
        program.load().context(what())?;
        program.fd()
    };
    fd.context(what())?.try_clone().context(what())
}
