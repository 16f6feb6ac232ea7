//! The programs of the slow path and those that record packets, which all interfaces share: loaded and verified
//! once for each type of hook and [`Variant`], and reached from the programs of an interface by a tail call.

use std::sync::{Mutex, PoisonError};

use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use firewall_ebpf::abi::counter::rule_stride;
use firewall_ebpf::abi::interface::{
    Direction, TcpChecks, record_index, shared_slow_path, slow_path_index,
};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::object::record_limits::RecordLimits;
use crate::dataplane::object::{self, embedded, loader, object_digest};
use crate::dataplane::pins::Pins;
use crate::dataplane::tables::clock;
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

    const fn recorder(self) -> &'static str {
        match self {
            Self::Xdp => "sg_record_xdp",
            Self::Tc => "sg_record_tc",
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

/// Loads a variant of the slow path, and the program that records its packets, unless this build's are there
/// already. Packets meet the old program or the new one.
///
/// # Errors
/// The kernel refuses a program or the map.
pub fn ensure(maps: &mut Maps, variant: Variant) -> Result<()> {
    let Variant { kind, direction, checks, has_ethernet, revalidates } = variant;
    // Threads that attach several interfaces load each variant once.
    static LOADING: Mutex<()> = Mutex::new(());
    let _loading = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    // First the one that is called by the other.
    let index = record_index(has_ethernet, direction);
    ensure_program(maps, variant, index, kind.recorder())?;
    let base = shared_slow_path(checks, has_ethernet, revalidates);
    ensure_program(maps, variant, slow_path_index(base, direction), kind.program())
}

fn ensure_program(maps: &mut Maps, variant: Variant, index: u32, name: &str) -> Result<()> {
    let (kind, digest) = (variant.kind, object_digest()?);
    if maps.loaded_slow_path(index)?[kind as usize] == digest {
        return Ok(());
    }
    let program = load(maps, variant, name)?;
    put(&maps.pins, kind, index, &program)?;
    let mut loaded = maps.loaded_slow_path(index)?;
    loaded[kind as usize] = digest;
    maps.set_loaded_slow_path(index, loaded)
}

/// Loads a program with the constants of a variant.
fn load(maps: &Maps, variant: Variant, name: &str) -> Result<ProgramFd> {
    let Variant { kind, direction, checks, has_ethernet, revalidates } = variant;
    let (stripes, stride) = (maps.sizes.rule_stripes(), rule_stride(maps.sizes.rules));
    let limits = RecordLimits::new(clock::hz())?;
    let mut loader = loader(&maps.pins, &maps.sizes);
    limits.set(&mut loader);
    let mut object = loader
        .override_global("RULE_STRIPES", &stripes, true)
        .override_global("RULE_STRIDE", &stride, true)
        .override_global("DIRECTION", &(direction as u8), true)
        .override_global("TCP_CHECKS", &(checks as u8), true)
        .override_global("ETHERNET", &u8::from(has_ethernet), true)
        .override_global("REVALIDATE", &u8::from(revalidates), true)
        .load(embedded()?)
        .context("open the kernel object")?;
    let what = || format!("load {name}");
    let fd = match kind {
        Kind::Xdp => {
            let program: &mut Xdp = object::program(&mut object, name)?;
            program.load().context(what())?;
            program.fd()
        }
        Kind::Tc => {
            let program: &mut SchedClassifier = object::program(&mut object, name)?;
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
