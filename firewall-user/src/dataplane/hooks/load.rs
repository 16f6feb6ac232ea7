//! The programs of one interface: its constants and tables, fixed while they are loaded, and the digest by
//! which equal programs are recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::OnceLock;

use aya::{Ebpf, EbpfLoader};
use firewall_ebpf::abi::counter::rule_stride;
use firewall_ebpf::abi::interface::{
    self, Direction, EtherTypes, FRAGMENT_TIMEOUT, NonIp, Orientation, TIMEOUT_SPACE, TcpChecks,
    UDP_STREAM_AGE, has_fast_path, settings_index, shared_slow_path,
};
use firewall_ebpf::abi::port::PortSecurity;
use firewall_ebpf::abi::state::State;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::object::{embedded, loader, object_digest};
use crate::dataplane::sys;
use crate::dataplane::tables::clock;
use crate::dataplane::tables::interface::Own;
use crate::dataplane::tables::maps::Maps;
use crate::model::{EtherType, HookChoice};

/// The settings of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The attachment number.
    pub slot: u16,
    /// Which way packets pass the device: [`Device::path`](crate::dataplane::host::device::Device::path).
    pub orientation: Orientation,
    /// Whether frames start with an Ethernet header.
    pub has_ethernet: bool,
    /// Which frames that are not IP pass.
    pub non_ip: NonIp,
    /// Which EtherTypes pass besides; [`MAX_ETHER_TYPES`](interface::MAX_ETHER_TYPES) at most.
    pub ether_types: BTreeSet<EtherType>,
    /// How strictly TCP is tracked.
    pub tcp_checks: TcpChecks,
    /// Whether a TCP connection may be picked up mid-stream (`nf_conntrack_tcp_loose`).
    pub tcp_loose: bool,
    /// Whether flows are re-evaluated after a change of policy.
    pub revalidate: bool,
    /// Proven TCP flows that one source can have.
    pub max_per_source: Option<u32>,
    /// Seconds, where they differ from the default.
    pub timeouts: BTreeMap<State, u32>,
    /// What a guest may send as its own.
    pub port: PortSecurity,
}

impl Settings {
    /// The record that the slow path reads.
    #[must_use]
    pub fn record(&self) -> interface::Settings {
        let mut timeouts = [0; TIMEOUT_SPACE];
        for state in State::ALL {
            let seconds = self.timeouts.get(state).copied().unwrap_or(state.default_timeout());
            timeouts[*state as usize] = clock::jiffies(u64::from(seconds));
        }
        let mut ether_types = EtherTypes::default();
        for (entry, ether_type) in ether_types.0.iter_mut().zip(&self.ether_types) {
            *entry = ether_type.number();
        }
        interface::Settings {
            timeouts,
            fragment_timeout: clock::jiffies(u64::from(FRAGMENT_TIMEOUT)),
            udp_stream_age: clock::jiffies(u64::from(UDP_STREAM_AGE)),
            non_ip: self.non_ip as u8,
            tcp_loose: self.tcp_loose.into(),
            reserved: [0; 2],
            max_per_source: self.max_per_source.unwrap_or(0),
            ether_types,
            port: self.port,
        }
    }

    /// [`interface::slow_path_index`]'s base of the interface's slow path.
    pub(in crate::dataplane) const fn slow_path(&self) -> u32 {
        shared_slow_path(self.tcp_checks, self.has_ethernet, self.revalidate)
    }

    /// Identifies the programs that [`open`] gives, and how they are attached: the kernel object, the
    /// settings, the tables and the chosen hook. Never zero.
    ///
    /// # Errors
    /// This build has no kernel object, or the interface no tables.
    pub(super) fn digest(&self, maps: &Maps, hook: HookChoice) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(object_digest()?);
        hasher.write(sys::bytes(&self.record()));
        (self.slot, self.orientation, self.slow_path(), hook.name()).hash(&mut hasher);
        if let Some(tables) = maps.interface_tables(self.slot)? {
            tables.ids()?.hash(&mut hasher);
        }
        Ok(hasher.finish().max(1))
    }
}

/// The values of an interface's constants in the kernel object, by their names there.
#[derive(Debug)]
pub(in crate::dataplane) struct Constants {
    rule_stripes: u32,
    rule_stride: u32,
    settings: u16,
    slow_path: u32,
    direction: u8,
    tcp_checks: u8,
    orientation: u8,
    ethernet: u8,
    fast_path: u8,
    revalidate: u8,
    own_mac: u64,
    timeouts: [u64; TIMEOUT_SPACE],
}

impl Constants {
    /// Those of an interface whose `record` of settings is in this half, with stripes of counters by rule of this
    /// number and length.
    pub(in crate::dataplane) fn new(
        settings: &Settings,
        (half, record): (u8, &interface::Settings),
        (rule_stripes, rule_stride): (u32, u32),
    ) -> Self {
        let Settings { slot, orientation, has_ethernet, tcp_checks, .. } = *settings;
        Self {
            rule_stripes,
            rule_stride,
            settings: settings_index(slot, half),
            slow_path: settings.slow_path(),
            direction: orientation.received() as u8,
            tcp_checks: tcp_checks as u8,
            orientation: orientation as u8,
            ethernet: has_ethernet.into(),
            fast_path: has_fast_path(has_ethernet, tcp_checks).into(),
            revalidate: settings.revalidate.into(),
            own_mac: settings.port.mac,
            timeouts: record.timeouts,
        }
    }

    /// The same for programs of which the slow path is for packets of this direction.
    pub(in crate::dataplane) const fn of(self, direction: Direction) -> Self {
        Self { direction: direction as u8, ..self }
    }

    /// Gives them to a loader.
    pub(in crate::dataplane) fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global("RULE_STRIPES", &self.rule_stripes, true)
            .override_global("RULE_STRIDE", &self.rule_stride, true)
            .override_global("SETTINGS", &self.settings, true)
            .override_global("SLOW_PATH", &self.slow_path, true)
            .override_global("DIRECTION", &self.direction, true)
            .override_global("TCP_CHECKS", &self.tcp_checks, true)
            .override_global("ORIENTATION", &self.orientation, true)
            .override_global("ETHERNET", &self.ethernet, true)
            .override_global("FAST_PATH", &self.fast_path, true)
            .override_global("REVALIDATE", &self.revalidate, true)
            .override_global("OWN_MAC", &self.own_mac, true)
            .override_global("TIMEOUTS", &self.timeouts, true);
    }
}

/// Room for the constants of an interface, to which a [`Loader`] refers.
#[derive(Debug, Default)]
pub struct Room(OnceLock<Constants>);

/// Opens the object for one interface after another. One for all: aya's loader reads the BTF of the kernel,
/// six megabytes, when it is made.
pub struct Loader<'a> {
    /// Made when it is needed.
    loader: Option<EbpfLoader<'a>>,
    room: &'a [Room],
}

impl<'a> Loader<'a> {
    /// A loader for as many interfaces as there is room for.
    #[must_use]
    pub const fn new(room: &'a [Room]) -> Self {
        Self { loader: None, room }
    }

    /// Opens the object for one interface, over the shared maps and its own tables. `record` is what its
    /// settings have in this half, where the slow path reads them. No program is loaded yet.
    ///
    /// # Errors
    /// The kernel refuses a map, the embedded object does not fit this binary, or there is no room left.
    pub fn open(
        &mut self,
        maps: &Maps,
        settings: &Settings,
        (half, record): (u8, &interface::Settings),
    ) -> Result<Ebpf> {
        let (room, left) = self.room.split_first().ok_or_else(|| {
            DataplaneError::new("open the kernel object: more interfaces than announced", "")
        })?;
        self.room = left;
        let (stripes, stride) = (maps.sizes.rule_stripes(), rule_stride(maps.sizes.rules));
        let constants =
            room.0.get_or_init(|| Constants::new(settings, (half, record), (stripes, stride)));
        let loader = self.loader.get_or_insert_with(|| loader(&maps.pins, &maps.sizes));
        for one in Own::ALL {
            if let Some(name) = one.bound_as() {
                loader.map_pin_path(name, maps.pins.flows(settings.slot, one.name()));
            }
        }
        constants.set(loader);
        loader.load(embedded()?).context("open the kernel object")
    }
}

/// Opens the object for one interface alone: [`Loader::open`].
///
/// # Errors
/// As there.
pub fn open(maps: &Maps, settings: &Settings, record: (u8, &interface::Settings)) -> Result<Ebpf> {
    Loader::new(&[Room::default()]).open(maps, settings, record)
}
