//! The programs of one direction: loading them over maps of their own, running them, and what a run has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use aya::maps::ProgramArray;
use aya::programs::{ProgramError, ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use firewall_ebpf::abi::counter::{Counter, counter_index, rule_stride};
use firewall_ebpf::abi::interface::{Direction, settings_index, slow_path_index};
use firewall_ebpf::abi::reason::{REASON_SPACE, Reason};

use super::RunError;
use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::explain::lines::Lines;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::hooks::load::{Constants, Settings};
use crate::dataplane::object::shapes::SHAPES;
use crate::dataplane::object::{self, embedded, map_fd, missing};
use crate::dataplane::sys::entries;
use crate::dataplane::sys::mapped::Mapped;
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

/// The programs of one direction.
pub(super) struct Loaded {
    pub(super) object: Ebpf,
    /// Of received packets at XDP, else at TC.
    is_xdp: bool,
    program: &'static str,
    /// What its counters by rule have; the programs have one stripe of them.
    rules: Mapped,
    /// The packets of each reason that were counted so far.
    counted: Vec<u64>,
    pub(super) lines: Option<Lines>,
}

impl Loaded {
    pub(super) fn open(
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
    pub(super) fn run(&mut self, frame: &[u8]) -> std::result::Result<bool, RunError> {
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
    pub(super) fn reason(&mut self, first: u32, cpus: usize) -> Result<Reason> {
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
    pub(super) fn counted_rules(&self, numbers: &BTreeMap<u32, u32>) -> Vec<u32> {
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
