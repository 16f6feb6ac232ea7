//! The kernel object for one interface: its settings, fixed while its programs are loaded.

use std::collections::BTreeMap;

use aya::Ebpf;
use firewall_ebpf::abi::counter::rule_stride;
use firewall_ebpf::abi::interface::{
    FRAGMENT_TIMEOUT, NonIp, Orientation, TcpChecks, has_fast_path,
};
use firewall_ebpf::abi::state::State;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::object::shapes::Sizes;
use crate::dataplane::object::{embedded, loader};
use crate::dataplane::pins::Pins;
use crate::dataplane::tables::clock;

/// The size of the programs' array of timeouts by state; `TIMEOUTS` of the kernel program.
const TIMEOUT_SPACE: usize = 16;

/// The settings of an interface: constants of its programs, so that the verifier removes what they
/// switch off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The attachment number.
    pub slot: u16,
    /// Which end of the device is protected.
    pub orientation: Orientation,
    /// Whether frames start with an Ethernet header.
    pub has_ethernet: bool,
    /// Which frames that are not IP pass.
    pub non_ip: NonIp,
    /// How strictly TCP is tracked.
    pub tcp_checks: TcpChecks,
    /// Whether a TCP connection may be picked up mid-stream (`nf_conntrack_tcp_loose`).
    pub tcp_loose: bool,
    /// Whether flows are re-evaluated after a change of policy.
    pub revalidate: bool,
    /// Seconds, where they differ from the default.
    pub timeouts: BTreeMap<State, u32>,
}

/// Opens the object for one interface, over the shared maps. No program is loaded yet.
///
/// # Errors
/// The kernel refuses a map, or the embedded object does not fit this binary.
pub fn open(pins: &Pins, sizes: &Sizes, settings: &Settings) -> Result<Ebpf> {
    let Settings { orientation, has_ethernet, non_ip, tcp_checks, .. } = *settings;
    let mut timeouts = [0_u64; TIMEOUT_SPACE];
    for state in State::ALL {
        let seconds = settings.timeouts.get(state).copied().unwrap_or(state.default_timeout());
        timeouts[*state as usize] = clock::jiffies(u64::from(seconds));
    }
    let (stripes, stride) = (sizes.rule_stripes(), rule_stride(sizes.rules));
    loader(pins, sizes)
        .override_global("RULE_STRIPES", &stripes, true)
        .override_global("RULE_STRIDE", &stride, true)
        .override_global("SLOT", &settings.slot, true)
        .override_global("ORIENTATION", &(orientation as u8), true)
        .override_global("ETHERNET", &u8::from(has_ethernet), true)
        .override_global("NON_IP", &(non_ip as u8), true)
        .override_global("FAST_PATH", &u8::from(has_fast_path(has_ethernet, tcp_checks)), true)
        .override_global("TCP_CHECKS", &(tcp_checks as u8), true)
        .override_global("TCP_LOOSE", &u8::from(settings.tcp_loose), true)
        .override_global("REVALIDATE", &u8::from(settings.revalidate), true)
        .override_global("FRAGMENT_TIMEOUT", &clock::jiffies(u64::from(FRAGMENT_TIMEOUT)), true)
        .override_global("TIMEOUTS", &timeouts, true)
        .load(embedded()?)
        .context("open the kernel object")
}
