//! The kernel's half of a change: what the model means for the maps and programs of this host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use firewall_ebpf::interface::Direction;

use crate::control::collect::{Effort, collect};
use crate::control::compiled::{Policies, addresses, compile, numbers};
use crate::control::progress::Progress;
use crate::dataplane::flows::learn::{self, Learned, Open};
use crate::dataplane::hooks::attach::{self, Attached};
use crate::dataplane::hooks::detach;
use crate::dataplane::host::bpffs;
use crate::dataplane::host::device::Device;
use crate::dataplane::object::shapes::Sizes;
use crate::dataplane::tables::clock;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::policy::{Shadow, Wanted};
use crate::dataplane::{DataplaneError, Pins, instance};
use crate::model::{Interface, Mode, Model, Tracking};
use crate::policy::questions::{check, questions};
use crate::policy::{Addresses, Book, Question, ResolvedRule, in_force, is_untracked};
use crate::store::Transaction;

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
    /// Rules that are in force no more afterwards.
    gone: Vec<u32>,
    /// Addresses of group members, as the policies have them.
    addresses: Addresses,
}

/// What may be taken for granted of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before<'a> {
    /// It has the policies in force that this model had with these addresses, as far as it says so
    /// itself: what stays is not written again.
    Known(&'a Model, &'a Addresses),
    /// Nothing: everything is written.
    Unknown,
}

impl Enforcer {
    /// Compiles every interface's policy and writes those that differ beside those in force.
    ///
    /// # Errors
    /// A policy does not fit, or the kernel refuses it; what is in force stays so.
    pub(super) fn stage(
        &self,
        mut maps: Maps,
        before: Before<'_>,
        model: &Model,
    ) -> Result<Staged> {
        let mut progress = Progress::new();
        let mut book = Book::default();
        let addresses = addresses(model)?;
        let known = match before {
            Before::Known(before, addresses) => {
                compile(&mut book, &Policies::new(), before, addresses)?
            }
            Before::Unknown => Policies::new(),
        };
        let policies = compile(&mut book, &known, model, &addresses)?;
        // Every rule that is in force before or after has its counter: the old ones go last. What is
        // stored but not in force, as after a reboot, has none yet.
        let rules = numbers(&book, &policies);
        let mut are_in_force = matches!(before, Before::Known(..));
        for (slot, known) in &known {
            are_in_force = are_in_force && maps.is_active(*slot, &known.policy)?;
        }
        let counted = if are_in_force { numbers(&book, &known) } else { maps.counted_rules()? };
        let gone: Vec<u32> = without(&counted, &rules).collect();
        maps.require_counters(rules.len() + gone.len())?;
        maps.add_rule_counters(without(&rules, &counted))?;

        let mut wanted = Vec::new();
        for (slot, compiled) in &policies {
            let known = known.get(slot).map(|known| &known.policy);
            // A panic is not to be played.
            let audit = !model.is_panicking
                && model.interfaces.get(slot).is_some_and(|one| one.mode == Mode::Audit);
            let one = Wanted { slot: *slot, book: &book, policy: &compiled.policy, known, audit };
            if matches!(before, Before::Unknown) || !maps.is_current(&one)? {
                wanted.push(one);
            }
        }
        progress.expect(wanted.iter().map(|one| 2 * one.policy.prefixes()).sum());
        let mut shadows = BTreeMap::new();
        for one in &wanted {
            let plan = maps.plan(one)?;
            let shadow = maps.shadow(one, plan, &mut |done| progress.advance(done))?;
            shadows.insert(one.slot, shadow);
        }
        maps.publish(&shadows.values().collect::<Vec<_>>())?;
        for (slot, shadow) in &shadows {
            let old = known.get(slot).map_or(&[][..], |known| &known.rules);
            if let Some(interface) = model.interfaces.get(slot) {
                verify(&maps, shadow, interface, old, &policies[slot].rules)?;
            }
        }
        Ok(Staged { maps, shadows, gone, addresses })
    }

    /// Stages what a transaction makes of the model, and notes in it which addresses members have then.
    ///
    /// # Errors
    /// As [`Self::stage`], and when the store cannot be used.
    pub(super) fn stage_change(
        &self,
        maps: Maps,
        transaction: &mut Transaction<'_>,
    ) -> Result<Staged> {
        let in_force = transaction.addresses_in_force()?;
        let before = Before::Known(transaction.before(), &in_force);
        let staged = self.stage(maps, before, transaction.model())?;
        transaction.set_addresses_in_force(&staged.addresses)?;
        Ok(staged)
    }

    /// Refuses to take pins that are out of sight, as under `ip netns exec`, for pins that are not
    /// there: a change would then be stored and never be in force.
    ///
    /// # Errors
    /// Something is stored, and no file system is there that could have its pins.
    pub(super) fn require_sight(&self, model: &Model) -> Result<()> {
        if model.interfaces.is_empty() || instance::exists(&self.pins) {
            return Ok(());
        }
        Ok(bpffs::require(&self.pins)?)
    }

    /// The maps, if anything is attached.
    pub(super) fn maps(&self) -> Result<Option<Maps>> {
        Ok(instance::open(&self.pins)?)
    }

    /// The maps, made if there are none.
    pub(super) fn ensure_maps(&self) -> Result<Maps> {
        Ok(instance::ensure_maps(&self.pins, &self.sizes)?)
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
    pub(super) fn tidy(&self, maps: &mut Maps, interfaces: &BTreeMap<u16, Interface>) {
        let _ = collect(&self.pins, maps, interfaces, Effort::Little);
    }

    /// Takes a slot out of the kernel: its programs first, then what they looked into.
    pub(super) fn forget(&self, maps: &mut Maps, slot: u16) -> Result<()> {
        // They go one after the other, and what one alone lets through is nobody's policy.
        maps.pass_all(slot)?;
        detach::detach(&self.pins, slot)?;
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
    maps.remove_fragments(slot)?;
    Ok(maps.clear_counters(slot)?)
}

impl Staged {
    /// Gives a slot that has none a policy that lets everything through until it is flipped.
    pub(super) fn stage_pass_all(&mut self, slot: u16) -> Result<()> {
        let shadow = self.shadows.get(&slot);
        Ok(shadow.map_or(Ok(()), |shadow| self.maps.stage_pass_all(shadow))?)
    }

    /// Puts all policies in force and lets go of the counters of rules that are gone.
    ///
    /// # Errors
    /// The kernel refuses a write. `reconcile` completes it: the store is changed already.
    pub(super) fn flip(mut self) -> Result<Maps> {
        let shadows = self.shadows.into_values().collect();
        self.maps.flip(shadows).context("stored, but perhaps not yet in force")?;
        let forgotten = self.maps.remove_rule_counters(&self.gone);
        forgotten.context("stored and in force, but rule counters")?;
        Ok(self.maps)
    }

    /// The addresses of group members that the policies speak of.
    pub(super) const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The maps, for what else a command does meanwhile.
    pub(super) fn maps(&mut self) -> &mut Maps {
        &mut self.maps
    }
}

/// Refuses tables of which the kernel does not say what the rules say.
fn verify(
    maps: &Maps,
    shadow: &Shadow,
    interface: &Interface,
    old: &[ResolvedRule],
    new: &[ResolvedRule],
) -> Result<()> {
    let answers = maps.probe(shadow, &questions(old, new))?;
    check(new, interface.tracking, &answers).map_err(|error| {
        let what = format!("policy of {}: {error}", interface.device);
        let hint = "this is a fault of secgroup, and the policy from before stays in force: please \
                    report it with `secgroup export`";
        DataplaneError::new(what, hint).into()
    })
}

/// The sorted numbers that are not among the other sorted ones.
fn without(numbers: &[u32], others: &[u32]) -> impl Iterator<Item = u32> {
    numbers.iter().copied().filter(|number| others.binary_search(number).is_err())
}
