//! The instance in the kernel: its maps, programs and flows.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::verdict::exempt::has_ports_of_dhcp;
use firewall_ebpf::wire::protocol::UDP;

use super::compiled::{PeerGroups, addresses};
use super::deferred::InForce;
use super::enforcement::{NotEnforced, has_programs, present_device};
use super::gc::{Extent, gc};
use super::other_store::StoreIdentity;
use crate::config::{self, MAX_ENTRIES, MIN_ENTRIES};
use crate::dataplane::flows::foreign;
use crate::dataplane::flows::learn::{self, Learned, OpenConnection};
use crate::dataplane::hooks::attach::{self, Attached};
use crate::dataplane::hooks::detach;
use crate::dataplane::hooks::load::Loader;
use crate::dataplane::hooks::programs;
use crate::dataplane::host::bpffs;
use crate::dataplane::host::device::Device;
use crate::dataplane::tables::clock;
use crate::dataplane::tables::interface::FlowSizes;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::{DataplaneError, Pins, instance};
use crate::model::{Interface, Model, Tracking};
use crate::policy::{Addresses, Probe, active_rules, is_untracked};

/// The instance of this host in the kernel.
#[derive(Debug)]
pub(super) struct Enforcer {
    pub(super) pins: Pins,
    /// The configured sizes.
    pub(super) sizes: config::Maps,
    /// Whether the configured sizes are not known, so that tables that exist keep theirs.
    pub(super) keeps_sizes: bool,
    /// The store that is enforced.
    pub(super) store: StoreIdentity,
    /// Which groups the rules name as their peers.
    pub(super) peers: Mutex<PeerGroups>,
    /// What was in force when a change was deferred last.
    pub(super) in_force: Mutex<Option<InForce>>,
}

impl Enforcer {
    /// Requires a visible BPF file system if interfaces are stored: without one, as under `ip netns exec`,
    /// existing pins would count as absent, and a change would be stored but never become active.
    ///
    /// # Errors
    /// The pin directory is not in a BPF file system.
    pub(super) fn require_bpffs_visible(&self, model: &Model) -> Result<()> {
        if model.interfaces.is_empty() || instance::exists(&self.pins) {
            return Ok(());
        }
        Ok(bpffs::require(&self.pins)?)
    }

    /// Refuses a change where nothing is pinned, but a device has programs of this project: their pins are out
    /// of sight, and the change would not reach them.
    ///
    /// # Errors
    /// There are such programs, or a device cannot be read.
    pub(super) fn require_no_hidden<'a>(
        &self,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<()> {
        for interface in interfaces {
            if let Some(device) = present_device(&self.pins, interface)? {
                programs::require_none(&self.pins, &device)?;
            }
        }
        Ok(())
    }

    /// Refuses a change where nothing is pinned, but a stored interface has a device: its client would take the
    /// change for enforced.
    ///
    /// # Errors
    /// [`NotEnforced`], or a device cannot be read.
    pub(super) fn require_no_device<'a>(
        &self,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<()> {
        for interface in interfaces {
            if present_device(&self.pins, interface)?.is_some() {
                return Err(NotEnforced { interface: interface.label() }.into());
            }
        }
        Ok(())
    }

    /// The inside addresses of the members of groups that rules name, by slot.
    ///
    /// # Errors
    /// rtnetlink fails.
    pub(super) fn addresses(&self, model: &Model) -> Result<Addresses> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        addresses(&self.pins, model, &peers.of(model))
    }

    /// The maps, if anything is attached.
    ///
    /// # Errors
    /// They cannot be opened, or are of another store.
    pub(super) fn maps(&self) -> Result<Option<Maps>> {
        let mut maps = self.maps_of_any_store()?;
        maps.as_mut().map_or(Ok(()), |maps| self.store.require(maps))?;
        Ok(maps)
    }

    /// The maps, if anything is attached, also of another store.
    pub(super) fn maps_of_any_store(&self) -> Result<Option<Maps>> {
        Ok(instance::open(&self.pins)?)
    }

    /// The maps, if anything is attached, also of a store that does not exist any more.
    ///
    /// # Errors
    /// They cannot be opened, or are of another store.
    pub(super) fn maps_of_lost_store(&self) -> Result<Option<Maps>> {
        let maps = self.maps_of_any_store()?;
        let owner = maps.as_ref().map_or(Ok(None), Maps::owner)?;
        if owner.is_some_and(|owner| self.store.is_lost(&owner)) { Ok(maps) } else { self.maps() }
    }

    /// The maps, created if they do not exist.
    ///
    /// # Errors
    /// They cannot be created or opened, or are of another store.
    pub(super) fn ensure_maps(&self) -> Result<Maps> {
        let mut maps = instance::ensure_maps(&self.pins, &self.sizes.shared())?;
        self.store.require(&mut maps)?;
        Ok(maps)
    }

    /// Attaches or replaces an interface's programs.
    pub(super) fn attach(
        &self,
        maps: &mut Maps,
        loader: &mut Loader<'_>,
        interface: &Interface,
        device: &Device,
    ) -> Result<Attached> {
        self.ensure_tables(maps, [interface])?;
        if !self.keeps_sizes {
            maps.resize_interface_tables(interface.slot, &self.flow_sizes(interface))?;
        }
        Ok(attach::attach(maps, loader, interface, device)?)
    }

    /// Removes the flows of a guest's interface before its programs are attached to another device: that is
    /// another guest, also with the same name and address. Counters are kept.
    pub(super) fn forget_other_guest(
        &self,
        maps: &mut Maps,
        interface: &Interface,
        device: &Device,
    ) -> Result<()> {
        let slot = interface.slot;
        if interface.orientation == Orientation::Host || has_programs(&self.pins, slot, device)? {
            return Ok(());
        }
        let flows = maps.flows_of(slot, None)?;
        maps.remove_flows(&flows)?;
        Ok(maps.remove_fragments(slot)?)
    }

    /// As [`Self::attach`], with the tables that the interface has, whatever their sizes.
    pub(super) fn attach_as_sized(
        &self,
        maps: &mut Maps,
        loader: &mut Loader<'_>,
        interface: &Interface,
        device: &Device,
    ) -> Result<Attached> {
        self.ensure_tables(maps, [interface])?;
        Ok(attach::attach(maps, loader, interface, device)?)
    }

    /// Creates the tables of flows of interfaces that have none.
    pub(super) fn ensure_tables<'a>(
        &self,
        maps: &Maps,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<()> {
        let wanted = interfaces.into_iter().map(|one| (one.slot, self.flow_sizes(one)));
        Ok(maps.ensure_interface_tables(wanted)?)
    }

    /// Refuses tables for which the machine has no memory: the kernel would end other processes for them.
    pub(super) fn require_memory(&self, interface: &Interface) -> Result<()> {
        let (needed, _) = self.flow_sizes(interface).memory();
        require_available(
            &format!("the flow tables of {}", interface.device),
            needed,
            "fewer flows need less: `--max-flows`, or [maps] in the configuration",
        )
    }

    /// The sizes of an interface's tables. With a limit of its own, the other tables keep their proportion
    /// to that of proven TCP flows.
    pub(super) fn flow_sizes(&self, interface: &Interface) -> FlowSizes {
        let configured = self.sizes.of_interface();
        let sources = |tcp: u32| interface.max_flows_per_source.map_or(0, |_| (tcp / 4).max(1024));
        let Some(tcp) = interface.max_flows else {
            return FlowSizes { sources: sources(configured.tcp), ..configured };
        };
        let scaled = |entries: u32| {
            let entries = u64::from(entries) * u64::from(tcp) / u64::from(configured.tcp.max(1));
            u32::try_from(entries).unwrap_or(u32::MAX).clamp(MIN_ENTRIES, MAX_ENTRIES)
        };
        FlowSizes {
            new: scaled(configured.new),
            udp: scaled(configured.udp),
            tcp,
            sources: sources(tcp),
            ..configured
        }
    }

    /// Writes flows for the connections that are open on an interface's device, where they need one.
    pub(super) fn learn(
        &self,
        maps: &mut Maps,
        model: &Model,
        interface: &Interface,
        device: &Device,
    ) -> Result<Learned> {
        if device.path(interface.orientation) != interface.orientation {
            // The host does not see the connections of a macvtap's guest.
            return Ok(Learned::default());
        }
        let open = learn::open_on(device.netns.as_deref(), device, interface.orientation);
        let mut open = open.context("learn open connections, which --no-learn leaves out")?;
        open.retain(|one| !model.is_panicking || is_managed(model, one.outside.ip()));
        open.retain(|one| foreign::may_use(interface, one.inside.ip()));
        // A learned flow would be proven.
        open.retain(|OpenConnection { protocol, inside, outside, .. }| {
            *protocol != UDP || !has_ports_of_dhcp(inside.is_ipv4(), inside.port(), outside.port())
        });
        let rules = active_rules(model, &self.addresses(model)?, interface);
        let mut known = BTreeMap::new();
        open.retain(|one| {
            let probe = probe(one);
            // Of the outside address only its family matters.
            let Probe { direction, outside, protocol, port } = probe;
            let kind = (direction, protocol, port, outside.is_ipv4());
            let needs_none = || interface.tracking == Tracking::Auto && is_untracked(&rules, probe);
            !*known.entry(kind).or_insert_with(needs_none)
        });
        let now = clock::now(&self.pins, maps)?;
        Ok(maps.learn(interface.slot, &open, now)?)
    }

    /// Removes some expired flows after a change. An error is ignored: the change is complete, and no
    /// packet depends on this.
    pub(super) fn gc_partly(&self, maps: &mut Maps, interfaces: &BTreeMap<u16, Interface>) {
        let _ = gc(&self.pins, maps, interfaces, Extent::Partial);
    }

    /// Releases a slot in the kernel: detaches its programs, then removes its entries in the maps.
    pub(super) fn release(&self, maps: &mut Maps, slot: u16) -> Result<()> {
        self.release_programs(maps, slot)?;
        clear_slot(maps, slot)
    }

    /// Detaches a slot's programs, and leaves its entries in the maps.
    pub(super) fn release_programs(&self, maps: &mut Maps, slot: u16) -> Result<()> {
        // The programs are detached one after the other, and one alone does not enforce the policy.
        maps.pass_all(slot)?;
        Ok(detach::detach(&self.pins, slot)?)
    }
}

/// Refuses tables of networks for which the machine has no memory.
pub(super) fn require_memory_for(what: &str, needed: u64) -> Result<()> {
    /// What any machine has: the file is not read for each small change.
    const SMALL: u64 = 1 << 20;
    if needed <= SMALL {
        return Ok(());
    }
    require_available(what, needed, "shorter prefix lists and fewer networks need less")
}

fn require_available(what: &str, needed: u64, hint: &'static str) -> Result<()> {
    let available = memory_available().context("read /proc/meminfo")?;
    if needed <= available {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let (needed, available) = (mebibytes(needed), mebibytes(available));
    let text = format!("{what} take {needed} MiB, and {available} MiB are available");
    Err(DataplaneError::new(text, hint).into())
}

/// Bytes of memory that can be allocated without swapping (`MemAvailable`).
pub(super) fn memory_available() -> std::io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kibibytes = text.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    Ok(kibibytes.map_or(u64::MAX, |kibibytes| kibibytes.saturating_mul(1 << 10)))
}

/// A connection's first packet.
const fn probe(one: &OpenConnection) -> Probe {
    let OpenConnection { protocol, inside, outside, initiator, .. } = *one;
    let destination = match initiator {
        Direction::Ingress => inside,
        Direction::Egress => outside,
    };
    Probe { direction: initiator, outside: outside.ip(), protocol, port: destination.port() }
}

/// Whether an address is in a management network.
pub(super) fn is_managed(model: &Model, address: IpAddr) -> bool {
    model.management.iter().any(|network| network.contains(&address))
}

/// Removes a slot's entries in the maps, so that its next interface starts without any.
pub(super) fn clear_slot(maps: &mut Maps, slot: u16) -> Result<()> {
    maps.clear_policy(slot)?;
    maps.remove_interface_tables(slot)?;
    maps.set_loaded(slot, (0, 0))?;
    maps.forget_device(slot)?;
    Ok(maps.clear_counters(slot)?)
}
