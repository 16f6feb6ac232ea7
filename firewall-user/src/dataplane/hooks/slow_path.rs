//! The programs of the slow path, which all interfaces share: loaded and verified once for each type of
//! hook, and reached from the programs of an interface by a tail call.

use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use firewall_ebpf::abi::counter::rule_stride;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::hooks::load::object_digest;
use crate::dataplane::object::{self, embedded, loader};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::entries;
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

    const fn program(self, traced: bool) -> &'static str {
        match (self, traced) {
            (Self::Xdp, false) => "sg_slow_xdp",
            (Self::Xdp, true) => "sg_trace_slow_xdp",
            (Self::Tc, false) => "sg_slow_tc",
            (Self::Tc, true) => "sg_trace_slow_tc",
        }
    }
}

/// Loads the slow path of a type unless this build's is there already. Packets meet the old program or the
/// new one.
///
/// # Errors
/// The kernel refuses the program or the map.
pub fn ensure(maps: &mut Maps, kind: Kind) -> Result<()> {
    let digest = object_digest()?;
    if maps.loaded_slow_path()?[kind as usize] == digest {
        return Ok(());
    }
    let (stripes, stride) = (maps.sizes.rule_stripes(), rule_stride(maps.sizes.rules));
    let mut object = loader(&maps.pins, &maps.sizes)
        .override_global("RULE_STRIPES", &stripes, true)
        .override_global("RULE_STRIDE", &stride, true)
        .load(embedded()?)
        .context("open the kernel object")?;
    let program = load(&mut object, kind, false)?;
    put(&maps.pins, kind, 0, &program)?;
    let mut loaded = maps.loaded_slow_path()?;
    loaded[kind as usize] = digest;
    maps.set_loaded_slow_path(loaded)
}

/// Loads the slow path of a traced interface from its object, which has the ring buffer of its lines.
///
/// # Errors
/// The kernel refuses the program or the map.
pub(super) fn trace(pins: &Pins, object: &mut Ebpf, kind: Kind, slot: u16) -> Result<()> {
    let program = load(object, kind, true)?;
    put(pins, kind, traced_index(slot), &program)
}

/// Index of an interface's own slow path, while it is traced.
pub(super) const fn traced_index(slot: u16) -> u32 {
    slot as u32 + 1
}

/// The id of the program that prints the packets of a traced interface.
///
/// # Errors
/// A map cannot be read, or the interface is not traced.
pub(super) fn traced_program(pins: &Pins, slot: u16) -> Result<u32> {
    for kind in [Kind::Tc, Kind::Xdp] {
        let name = kind.map();
        let map = MapData::from_pin(pins.map(name)).context(format_args!("open map {name}"))?;
        // The map returns the id of a program.
        let id = entries::get::<u32, u32>(map.fd().as_fd(), &traced_index(slot));
        if let Some(id) = id.context(format_args!("read map {name}"))? {
            return Ok(id);
        }
    }
    Err(DataplaneError::new(format!("trace slot {slot}: it is not traced"), ""))
}

/// Removes the slow path of an interface that is not traced any more.
///
/// # Errors
/// A map cannot be written.
pub(super) fn untrace(pins: &Pins, slot: u16) -> Result<()> {
    for kind in [Kind::Xdp, Kind::Tc] {
        // One that is not there is no error.
        let _ = programs(pins, kind)?.clear_index(&traced_index(slot));
    }
    Ok(())
}

fn load(object: &mut Ebpf, kind: Kind, traced: bool) -> Result<ProgramFd> {
    let name = kind.program(traced);
    let what = || format!("load {name}");
    let fd = match kind {
        Kind::Xdp => {
            let program: &mut Xdp = object::program(object, name)?;
            if program.fd().is_err() {
                program.load().context(what())?;
            }
            program.fd()
        }
        Kind::Tc => {
            let program: &mut SchedClassifier = object::program(object, name)?;
            // For a traced interface once for each direction.
            if program.fd().is_err() {
                program.load().context(what())?;
            }
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
