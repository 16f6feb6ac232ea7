//! Policies that are written beside the active ones, and made active.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::compiled::{Policies, addresses, compile, numbers};
use super::enforcer::Enforcer;
use super::progress::Progress;
use crate::dataplane::DataplaneError;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::policy::{Shadow, Wanted};
use crate::model::{Interface, Mode, Model};
use crate::policy::probes::{check, probes};
use crate::policy::{Addresses, PolicyInterner, ResolvedRule};
use crate::store::Transaction;

/// Policies that are written but not active.
#[must_use = "staged policies do nothing until they are flipped"]
pub(super) struct Staged {
    maps: Maps,
    shadows: BTreeMap<u16, Shadow>,
    /// Rules that no active policy contains afterwards.
    removed: Vec<u32>,
    /// The addresses of group members in the policies.
    addresses: Addresses,
}

/// What is known about the active policies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before<'a> {
    /// They are those of this model with these addresses, where their digests agree: what does not
    /// differ is not written again.
    Known(&'a Model, &'a Addresses),
    /// Nothing but their digests: what is not active and complete is written as a whole.
    Unknown,
}

impl Enforcer {
    /// Compiles every interface's policy and writes those that differ beside the active ones.
    ///
    /// # Errors
    /// A policy does not fit, or the kernel refuses it; the active policies stay active.
    pub(super) fn stage(
        &self,
        mut maps: Maps,
        before: Before<'_>,
        model: &Model,
    ) -> Result<Staged> {
        let mut progress = Progress::new();
        let mut interner = PolicyInterner::default();
        let addresses = addresses(&self.pins, model)?;
        let known = match before {
            Before::Known(before, addresses) => {
                compile(&mut interner, &Policies::new(), before, addresses)?
            }
            Before::Unknown => Policies::new(),
        };
        let policies = compile(&mut interner, &known, model, &addresses)?;
        // Every rule that is active before or after has a counter: those of old rules are removed last.
        // Rules that are stored but not active, as after a reboot, have none yet.
        let rules = numbers(&interner, &policies);
        let mut are_active = matches!(before, Before::Known(..));
        for (slot, known) in &known {
            are_active = are_active && maps.is_active(*slot, &known.policy)?;
        }
        let counted = if are_active { numbers(&interner, &known) } else { maps.counted_rules()? };
        let removed: Vec<u32> = without(&counted, &rules).collect();
        maps.require_counters(rules.len() + removed.len())?;
        maps.add_rule_counters(without(&rules, &counted))?;

        let mut wanted = Vec::new();
        for (slot, compiled) in &policies {
            let known = known.get(slot).map(|known| &known.policy);
            // Emergency mode enforces, also in audit mode.
            let audit = !model.is_panicking
                && model.interfaces.get(slot).is_some_and(|one| one.mode == Mode::Audit);
            let one =
                Wanted { slot: *slot, interner: &interner, policy: &compiled.policy, known, audit };
            let is_written = maps.is_current(&one)?
                && (matches!(before, Before::Known(..)) || maps.is_complete(&one)?);
            if !is_written {
                wanted.push(one);
            }
        }
        progress.expect(wanted.iter().map(|one| one.policy.prefixes()).sum());
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
        Ok(Staged { maps, shadows, removed, addresses })
    }

    /// Stages the policies of a transaction's model, and stores with it the addresses that they contain.
    ///
    /// # Errors
    /// As [`Self::stage`], and when the store cannot be used.
    pub(super) fn stage_change(
        &self,
        maps: Maps,
        transaction: &mut Transaction<'_>,
    ) -> Result<Staged> {
        let addresses = transaction.active_addresses()?;
        let before = Before::Known(transaction.before(), &addresses);
        let staged = self.stage(maps, before, transaction.model())?;
        transaction.set_active_addresses(&staged.addresses)?;
        Ok(staged)
    }
}

impl Staged {
    /// Makes a slot's policy active in audit mode until it is flipped: every packet passes. For a slot
    /// without a policy.
    pub(super) fn stage_pass_all(&mut self, slot: u16) -> Result<()> {
        let shadow = self.shadows.get(&slot);
        Ok(shadow.map_or(Ok(()), |shadow| self.maps.stage_pass_all(shadow))?)
    }

    /// Makes all policies active and removes the counters of rules that no policy contains any more.
    ///
    /// # Errors
    /// The kernel refuses a write. `reconcile` completes it: the store is changed already.
    pub(super) fn flip(mut self) -> Result<Maps> {
        let shadows = self.shadows.into_values().collect();
        self.maps.flip(shadows).context("stored, but perhaps not yet active")?;
        let removed = self.maps.remove_rule_counters(&self.removed);
        removed.context("stored and active, but counters of removed rules are left")?;
        Ok(self.maps)
    }

    /// The addresses of group members in the policies.
    pub(super) const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The maps, for further writes before the flip.
    pub(super) fn maps(&mut self) -> &mut Maps {
        &mut self.maps
    }
}

/// Refuses tables with which the kernel program's results differ from the rules.
fn verify(
    maps: &Maps,
    shadow: &Shadow,
    interface: &Interface,
    old: &[ResolvedRule],
    new: &[ResolvedRule],
) -> Result<()> {
    let results = maps.probe(shadow, &probes(old, new))?;
    check(new, interface.tracking, &results).map_err(|error| {
        let what = format!("policy of {}: {error}", interface.device);
        let hint = "this is a bug in secgroup, and the previous policy stays active: please \
                    report it with the output of `secgroup export`";
        DataplaneError::new(what, hint).into()
    })
}

/// The sorted numbers that are not among the other sorted ones.
fn without(numbers: &[u32], others: &[u32]) -> impl Iterator<Item = u32> {
    numbers.iter().copied().filter(|number| others.binary_search(number).is_err())
}
