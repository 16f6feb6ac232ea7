//! The kernel's half of a change: what the model means for the maps and programs of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use firewall_ebpf::host::CompiledPolicy;
use firewall_ebpf::interface::Direction;
use firewall_ebpf::policy::UNTRACKED;

use crate::control::collect::{Effort, collect};
use crate::dataplane::attach::{self, Attached};
use crate::dataplane::device::Device;
use crate::dataplane::learn::{self, Learned, Open};
use crate::dataplane::maps::{Maps, Sizes};
use crate::dataplane::policy::Shadow;
use crate::dataplane::{DataplaneError, Pins, clock, device, object};
use crate::model::{Interface, Model, Tracking};
use crate::policy::{Addresses, Question, compile, in_force, is_untracked};

/// This instance's place in the kernel.
#[derive(Debug)]
pub(super) struct Enforcer {
    pub(super) pins: Pins,
    pub(super) sizes: Sizes,
}

/// Policies that are written but not in force.
#[must_use = "staged policies do nothing until they are flipped"]
pub(super) struct Staged {
    maps: Maps,
    shadows: BTreeMap<u16, Shadow>,
    rules: BTreeSet<u32>,
}

/// Which policies to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that differ from what is in force.
    Changed,
    /// All, whatever the kernel seems to have.
    All,
}

impl Enforcer {
    /// Compiles every interface's policy and writes them beside those in force.
    ///
    /// # Errors
    /// A policy does not fit, or the kernel refuses it; what is in force stays so.
    pub(super) fn stage(&self, mut maps: Maps, model: &Model, which: Which) -> Result<Staged> {
        let policies = self.compile(model)?;
        // Every rule that is in force before or after has its counter: the old ones go last.
        let rules = numbers(&policies);
        let in_force = maps.rule_counters()?.into_keys().collect();
        maps.count_rules(&rules.union(&in_force).copied().collect())?;
        let mut shadows = BTreeMap::new();
        for (slot, policy) in &policies {
            if which == Which::All || !maps.is_current(*slot, policy)? {
                shadows.insert(*slot, maps.shadow(*slot, policy)?);
            }
        }
        Ok(Staged { maps, shadows, rules })
    }

    /// Every interface's policy, by slot.
    ///
    /// # Errors
    /// One does not fit.
    pub(super) fn compile(&self, model: &Model) -> Result<BTreeMap<u16, CompiledPolicy>> {
        let addresses = addresses(model)?;
        let compile_one = |interface: &Interface| {
            let rules = in_force(model, &addresses, interface);
            compile(&rules, interface.tracking).map_err(|error| {
                DataplaneError::new(
                    format!("policy of {}: {error}", interface.device),
                    match interface.tracking {
                        Tracking::Auto => {
                            "fewer rules, prefix list entries or groups on the interface make it \
                             smaller, and so does `attach --tracking always`"
                        }
                        Tracking::Always => {
                            "fewer rules, prefix list entries or groups on the interface make it \
                             smaller"
                        }
                    },
                )
            })
        };
        let compiled = model.interfaces.values().map(|i| Ok((i.slot, compile_one(i)?)));
        compiled.collect()
    }

    /// Refuses to take pins that are out of sight, as under `ip netns exec`, for pins that are not
    /// there: a change would then be stored and never be in force.
    ///
    /// # Errors
    /// Something is stored, and no file system is there that could have its pins.
    pub(super) fn require_sight(&self, model: &Model) -> Result<()> {
        if model.interfaces.is_empty() || self.pins.exist() {
            return Ok(());
        }
        Ok(self.pins.require_bpffs()?)
    }

    /// The maps, if anything is attached.
    pub(super) fn maps(&self) -> Result<Option<Maps>> {
        self.pins.refuse_other_versions()?;
        if self.pins.exist() { Ok(Some(Maps::open(&self.pins)?)) } else { Ok(None) }
    }

    /// The maps, made if there are none.
    pub(super) fn ensure_maps(&self) -> Result<Maps> {
        Ok(object::ensure_maps(&self.pins, &self.sizes)?)
    }

    /// Attaches or replaces an interface's programs.
    pub(super) fn attach(
        &self,
        maps: &Maps,
        interface: &Interface,
        traced: bool,
    ) -> Result<Attached> {
        Ok(attach::attach(&self.pins, &maps.sizes, interface, traced)?)
    }

    /// Gives the connections that are open on an interface's device their flows, where they need any.
    pub(super) fn learn(
        &self,
        maps: &mut Maps,
        model: &Model,
        interface: &Interface,
        device: &Device,
    ) -> Result<Learned> {
        let open = learn::open_on(interface.netns.as_deref(), device, interface.orientation);
        let mut open = open.context("learn open connections, which --no-learn leaves out")?;
        open.retain(|one| !model.is_panicking || is_managed(model, one.outside.ip()));
        let rules = in_force(model, &addresses(model)?, interface);
        let mut known = BTreeMap::new();
        open.retain(|one| {
            let asked = question(one);
            // Of the outside its family is all that counts.
            let kind = (asked.direction, asked.protocol, asked.port, asked.outside.is_ipv4());
            let needs_none = || interface.tracking == Tracking::Auto && is_untracked(&rules, asked);
            !*known.entry(kind).or_insert_with(needs_none)
        });
        let now = clock::now(&self.pins, maps)?;
        Ok(maps.learn(interface.slot, &open, now)?)
    }

    /// Makes some room in the flow tables after a change. The change is made already, and nothing
    /// needs the room now: a failure is none of the command's.
    pub(super) fn tidy(&self, maps: &Maps, interfaces: &BTreeMap<u16, Interface>) {
        let _ = collect(&self.pins, maps, interfaces, Effort::Little);
    }

    /// Takes a slot out of the kernel: its programs first, then what they looked into.
    pub(super) fn forget(&self, maps: &mut Maps, slot: u16) -> Result<()> {
        attach::detach(&self.pins, slot)?;
        wipe(maps, slot)
    }
}

/// A connection's first packet.
const fn question(one: &Open) -> Question {
    let Open { protocol, inside, outside, initiator, .. } = *one;
    let asked = match initiator {
        Direction::Ingress => inside,
        Direction::Egress => outside,
    };
    Question { direction: initiator, outside: outside.ip(), protocol, port: asked.port() }
}

/// Whether an address is in a management network.
pub(super) fn is_managed(model: &Model, address: IpAddr) -> bool {
    model.management.iter().any(|network| network.contains(&address))
}

/// Clears what a slot left in the maps, so that its next interface starts from nothing.
pub(super) fn wipe(maps: &mut Maps, slot: u16) -> Result<()> {
    maps.clear_policy(slot)?;
    let flows: Vec<_> = maps.flows()?.into_iter().filter(|flow| flow.slot == slot).collect();
    maps.remove_flows(&flows)?;
    maps.forget_fragments(slot)?;
    Ok(maps.clear_counters(slot)?)
}

impl Staged {
    /// Puts one slot's policy in force.
    pub(super) fn flip_slot(&mut self, slot: u16) -> Result<()> {
        self.shadows.remove(&slot).map_or(Ok(()), |shadow| Ok(self.maps.flip(shadow)?))
    }

    /// Puts all policies in force and lets go of the counters of rules that are gone.
    ///
    /// # Errors
    /// The kernel refuses a write. `reconcile` completes it: the store is changed already.
    pub(super) fn flip(mut self) -> Result<Maps> {
        let slots: Vec<u16> = self.shadows.keys().copied().collect();
        for slot in slots {
            self.flip_slot(slot).context("stored, but not yet in force")?;
        }
        self.maps.count_rules(&self.rules).context("stored and in force, but rule counters")?;
        Ok(self.maps)
    }

    /// The maps, for what else a command does meanwhile.
    pub(super) fn maps(&mut self) -> &mut Maps {
        &mut self.maps
    }
}

fn numbers(policies: &BTreeMap<u16, CompiledPolicy>) -> BTreeSet<u32> {
    let ranges = policies.values().flat_map(|policy| &policy.ranges);
    ranges.map(|range| range.rule & !UNTRACKED).collect()
}

/// The inside addresses of every interface: those of the device, where it belongs to the
/// protected end, and those that the user declared.
pub(super) fn addresses(model: &Model) -> Result<Addresses> {
    let referenced: BTreeSet<_> = model
        .groups
        .values()
        .flat_map(|group| &group.rules)
        .filter_map(|rule| match &rule.spec.peer {
            crate::model::Peer::Group(id) => Some(id),
            _ => None,
        })
        .collect();
    let mut addresses = Addresses::new();
    for interface in model.interfaces.values() {
        // Asking netlink costs a round trip: only for members of a group that a rule names.
        if interface.groups.iter().any(|group| referenced.contains(group)) {
            addresses.insert(interface.slot, inside(interface)?);
        }
    }
    Ok(addresses)
}

/// The inside addresses of one interface.
///
/// # Errors
/// rtnetlink fails. A device that is gone has no addresses.
pub fn inside(interface: &Interface) -> Result<Vec<IpAddr>> {
    let mut all = interface.addresses.clone();
    if interface.orientation == firewall_ebpf::interface::Orientation::Host
        && let Some(device) = device::lookup(interface.netns.as_deref(), &interface.device)?
    {
        all.extend(device.addresses);
    }
    all.sort();
    all.dedup();
    Ok(all)
}
