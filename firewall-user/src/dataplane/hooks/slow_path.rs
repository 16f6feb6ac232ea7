//! The programs of the slow path, which all interfaces share: loaded and verified once for each type of
//! hook and [`Variant`], and reached from the programs of an interface by a tail call.

use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use firewall_ebpf::abi::counter::rule_stride;
use firewall_ebpf::abi::interface::{
    Direction, TcpChecks, shared_slow_path, slow_path_index, traced_lines, traced_slow_path,
};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::object::{self, embedded, loader, object_digest};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::entries;
use crate::dataplane::sys::unpin::unpin;
use crate::dataplane::tables::maps::Maps;

/// The types of programs, which can only call those of their own type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// XDP.
    Xdp,
    /// TCX and clsact.
    Tc,
}

impl Kind {
    const fn map(self) -> &'static str {
        match self {
            Self::Xdp => "SLOW_XDP",
            Self::Tc => "SLOW_TC",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Xdp => "sg_slow_xdp",
            Self::Tc => "sg_slow_tc",
        }
    }

    /// The slow path of a traced interface, and the program that follows it.
    const fn traced(self) -> [&'static str; 2] {
        match self {
            Self::Xdp => ["sg_trace_slow_xdp", "sg_trace_xdp"],
            Self::Tc => ["sg_trace_slow_tc", "sg_trace_tc"],
        }
    }
}

/// A variant of the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The type of its programs.
    pub kind: Kind,
    /// The direction of its packets.
    pub direction: Direction,
    /// The checks of TCP.
    pub checks: TcpChecks,
    /// Whether frames start with an Ethernet header.
    pub has_ethernet: bool,
    /// Whether flows are evaluated again after a change of policy.
    pub revalidates: bool,
}

/// Loads a variant of the slow path unless this build's is there already. Packets meet the old program or
/// the new one.
///
/// # Errors
/// The kernel refuses the program or the map.
pub fn ensure(maps: &mut Maps, variant: Variant) -> Result<()> {
    let Variant { kind, direction, checks, has_ethernet, revalidates } = variant;
    // Threads that attach several interfaces load each variant once.
    static LOADING: Mutex<()> = Mutex::new(());
    let _loading = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = object_digest()?;
    let base = shared_slow_path(checks, has_ethernet, revalidates);
    let index = slow_path_index(base, direction);
    if maps.loaded_slow_path(index)?[kind as usize] == digest {
        return Ok(());
    }
    let program = load(&mut open(maps, variant, None)?, kind, kind.program())?;
    put(&maps.pins, kind, index, &program)?;
    let mut loaded = maps.loaded_slow_path(index)?;
    loaded[kind as usize] = digest;
    maps.set_loaded_slow_path(index, loaded)
}

/// Loads the slow path of a traced interface, with a ring buffer for its lines, which all its variants have.
///
/// # Errors
/// The kernel refuses the program or the map.
pub(super) fn trace(maps: &Maps, variant: Variant, slot: u16) -> Result<()> {
    let Variant { kind, direction, .. } = variant;
    let mut object = open(maps, variant, Some(slot))?;
    // First the one that is called by the other.
    for (name, base) in
        kind.traced().into_iter().zip([traced_slow_path(slot), traced_lines(slot)]).rev()
    {
        let program = load(&mut object, kind, name)?;
        put(&maps.pins, kind, slow_path_index(base, direction), &program)?;
    }
    Ok(())
}

/// The map of aya-log, and its pin while an interface is traced.
const LINES: &str = "AYA_LOGS";

/// The id of a program that prints the packets of a traced interface.
///
/// # Errors
/// A map cannot be read, or the interface is not traced.
pub(super) fn traced_program(pins: &Pins, slot: u16) -> Result<u32> {
    for kind in [Kind::Tc, Kind::Xdp] {
        let name = kind.map();
        let map = MapData::from_pin(pins.map(name)).context(format_args!("open map {name}"))?;
        for direction in Direction::ALL {
            let index = slow_path_index(traced_lines(slot), direction);
            // The map returns the id of a program.
            let id = entries::get::<u32, u32>(map.fd().as_fd(), &index);
            if let Some(id) = id.context(format_args!("read map {name}"))? {
                return Ok(id);
            }
        }
    }
    Err(DataplaneError::new(format!("trace slot {slot}: it is not traced"), ""))
}

/// Removes the slow path of an interface that is not traced any more.
///
/// # Errors
/// A map cannot be written, or a pin cannot be removed.
pub(super) fn untrace(pins: &Pins, slot: u16) -> Result<()> {
    // Pinned before the programs are loaded, and removed last.
    let lines = pins.flows(slot, LINES);
    if !lines.exists() {
        return Ok(());
    }
    for kind in [Kind::Xdp, Kind::Tc] {
        for direction in Direction::ALL {
            for base in [traced_slow_path(slot), traced_lines(slot)] {
                // One that is not there is no error.
                let _ = programs(pins, kind)?.clear_index(&slow_path_index(base, direction));
            }
        }
    }
    unpin(&lines)
}

/// Opens the object for a variant; `traced` is the slot of a traced interface.
fn open(maps: &Maps, variant: Variant, traced: Option<u16>) -> Result<Ebpf> {
    let Variant { direction, checks, has_ethernet, revalidates, .. } = variant;
    let (stripes, stride) = (maps.sizes.rule_stripes(), rule_stride(maps.sizes.rules));
    let mut loader = loader(&maps.pins, &maps.sizes);
    if let Some(slot) = traced {
        loader.map_pin_path(LINES, maps.pins.flows(slot, LINES));
    }
    loader
        .override_global("RULE_STRIPES", &stripes, true)
        .override_global("RULE_STRIDE", &stride, true)
        .override_global("DIRECTION", &(direction as u8), true)
        .override_global("TCP_CHECKS", &(checks as u8), true)
        .override_global("ETHERNET", &u8::from(has_ethernet), true)
        .override_global("REVALIDATE", &u8::from(revalidates), true)
        .load(embedded()?)
        .context("open the kernel object")
}

fn load(object: &mut Ebpf, kind: Kind, name: &str) -> Result<ProgramFd> {
    let what = || format!("load {name}");
    let fd = match kind {
        Kind::Xdp => {
            let program: &mut Xdp = object::program(object, name)?;
            program.load().context(what())?;
            program.fd()
        }
        Kind::Tc => {
            let program: &mut SchedClassifier = object::program(object, name)?;
            program.load().context(what())?;
            program.fd()
        }
    };
    fd.context(what())?.try_clone().context(what())
}

fn put(pins: &Pins, kind: Kind, index: u32, program: &ProgramFd) -> Result<()> {
    let done = programs(pins, kind)?.set(index, program, 0);
    done.context(format_args!("write map {}", kind.map()))
}

fn programs(pins: &Pins, kind: Kind) -> Result<ProgramArray<MapData>> {
    let name = kind.map();
    let map = MapData::from_pin(pins.map(name)).context(format_args!("open map {name}"))?;
    Map::ProgramArray(map).try_into().context(format_args!("open map {name}"))
}
