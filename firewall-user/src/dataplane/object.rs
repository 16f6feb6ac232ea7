//! The kernel object that is part of this binary, and loading it for an interface.

use std::collections::BTreeMap;

use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::interface::{FRAGMENT_TIMEOUT, Orientation, State, TcpChecks, glances};

use crate::dataplane::clock;
use crate::dataplane::error::{Context, DataplaneError, Result, chain, usual_cause};
use crate::dataplane::maps::{self, Maps, Sizes};
use crate::dataplane::pins::Pins;

/// The kernel object from `cargo xtask build`; empty if the library was built before it.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/secgroup.bpf.o"));

/// Room in the programs for a timeout of each state; `TIMEOUTS` of the kernel program.
const TIMEOUT_SPACE: usize = 16;

/// What is fixed for an interface while its programs are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The attachment number.
    pub slot: u16,
    /// Which end of the device is protected.
    pub orientation: Orientation,
    /// Whether frames start with an Ethernet header.
    pub has_ethernet: bool,
    /// Which frames that are not IP pass.
    pub non_ip: NonIp,
    /// How closely TCP is followed.
    pub tcp_checks: TcpChecks,
    /// Whether a TCP connection may be taken up in its middle.
    pub pick_up: bool,
    /// Whether flows are asked about again after a change of policy.
    pub revalidate: bool,
    /// Seconds, where they differ from the default.
    pub timeouts: BTreeMap<State, u32>,
}

/// Makes the shared maps where they do not exist yet, and opens them.
///
/// # Errors
/// The pin directory is not usable, holds another version's pins, or the kernel refuses a map.
pub fn ensure_maps(pins: &Pins, sizes: &Sizes) -> Result<Maps> {
    pins.refuse_other_versions()?;
    if pins.exist() {
        return Maps::open(pins);
    }
    pins.create(|pins| {
        let mut object = loader(pins, sizes)
            .load(embedded()?)
            .map_err(|error| refused("make the maps", &error))?;
        for (name, pin) in [
            ("sg_clock", pins.clock()),
            ("sg_note_v4", pins.note(false)),
            ("sg_note_v6", pins.note(true)),
            ("sg_reap_v4", pins.reap(false)),
            ("sg_reap_v6", pins.reap(true)),
            ("sg_probe_v4", pins.probe(false)),
            ("sg_probe_v6", pins.probe(true)),
        ] {
            let program: &mut SchedClassifier = named(&mut object, name)?;
            program.load().map_err(|error| refused(&format!("load {name}"), &error))?;
            program.pin(pin).context(format!("pin {name}"))?;
        }
        maps::make_own(pins, sizes)
    })?;
    Maps::open(pins)
}

/// Opens the object for one interface, over the shared maps. No program is loaded yet.
///
/// # Errors
/// The kernel refuses a map, or the embedded object does not fit this binary.
pub fn open(pins: &Pins, sizes: &Sizes, fixed: &Fixed) -> Result<Ebpf> {
    let mut timeouts = [0_u64; TIMEOUT_SPACE];
    for state in State::ALL {
        let seconds = fixed.timeouts.get(state).copied().unwrap_or(state.default_timeout());
        timeouts[*state as usize] = clock::jiffies(u64::from(seconds));
    }
    loader(pins, sizes)
        .override_global("SLOT", &fixed.slot, true)
        .override_global("ORIENTATION", &(fixed.orientation as u8), true)
        .override_global("ETHERNET", &u8::from(fixed.has_ethernet), true)
        .override_global("NON_IP", &(fixed.non_ip as u8), true)
        .override_global("GLANCE", &u8::from(glances(fixed.has_ethernet, fixed.tcp_checks)), true)
        .override_global("TCP_CHECKS", &(fixed.tcp_checks as u8), true)
        .override_global("PICK_UP", &u8::from(fixed.pick_up), true)
        .override_global("REVALIDATE", &u8::from(fixed.revalidate), true)
        .override_global("FRAGMENT_TIMEOUT", &clock::jiffies(u64::from(FRAGMENT_TIMEOUT)), true)
        .override_global("TIMEOUTS", &timeouts, true)
        .load(embedded()?)
        .map_err(|error| refused("open the kernel object", &error))
}

fn embedded() -> Result<&'static [u8]> {
    if OBJECT.is_empty() {
        return Err(DataplaneError::new(
            "load the kernel object: this build of secgroup has none",
            "run `cargo xtask build`, then use target/release/secgroup",
        ));
    }
    Ok(OBJECT)
}

fn loader<'a>(pins: &Pins, sizes: &Sizes) -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    for (name, path, entries) in maps::plan(pins, sizes) {
        loader.map_pin_path(name, path).map_max_entries(name, entries);
    }
    loader
}

/// A program of the object, as its type.
///
/// # Errors
/// There is none of that name and type; the object is another build's.
pub fn named<'a, P>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = object.program_mut(name).ok_or_else(|| {
        DataplaneError::new(format!("kernel object: no program {name}"), "rebuild secgroup")
    })?;
    program.try_into().context(format!("kernel object: program {name}"))
}

/// A refusal by the kernel, with what usually is behind it.
pub(super) fn refused(operation: &str, error: &dyn std::error::Error) -> DataplaneError {
    let text = chain(error);
    let hint = usual_cause(&text).unwrap_or_default();
    DataplaneError::new(format!("{operation}: {text}"), hint)
}
