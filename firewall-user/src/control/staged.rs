//! Policies, filters and blocks that are written beside the active ones, and made active.

pub(super) mod blocks;
pub(super) mod filters;
pub(super) mod numbers;

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Context as _, Result};

use super::boot;
use super::compiled::{Policies, compile, numbers};
use super::enforcer::Enforcer;
use super::progress::Progress;
use crate::dataplane::DataplaneError;
use crate::dataplane::tables::blocks::BlockShadow;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::policy::{Flags, Shadow, Wanted};
use crate::model::{Interface, Mode, Model};
use crate::policy::probes::{Asked, check, probes};
use crate::policy::{Addresses, PolicyInterner, ResolvedRule};
use crate::store::Transaction;
use numbers::{Indexes, ends, listed, split_moved, timed, union};

/// Policies that are written but not active.
#[must_use = "staged policies do nothing until they are flipped"]
pub(super) struct Staged {
    maps: Maps,
    shadows: BTreeMap<u16, Shadow>,
    blocks: Option<BlockShadow>,
    /// Rules, entries of ACLs and blocks that are in force nowhere afterwards.
    removed: Vec<u32>,
    /// When what is in force already ends otherwise, by the index of its counter.
    moved: BTreeMap<u32, u64>,
    /// The addresses of group members in the policies.
    addresses: Addresses,
}

/// What is known about the active policies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before<'a> {
    /// They are those of this model, where their digests agree: what does not differ is not written again.
    Known {
        model: &'a Model,
        /// The addresses of group members in the policies.
        addresses: &'a Addresses,
        /// The generation of the store that the model is of, if it is that of the store as it is.
        generation: Option<u64>,
    },
    /// Nothing but their digests: what is not active and complete is written as a whole.
    Unknown,
}

impl<'a> Before<'a> {
    const fn model(self) -> Option<&'a Model> {
        match self {
            Self::Known { model, .. } => Some(model),
            Self::Unknown => None,
        }
    }

    /// The model, if the kernel has recorded that all of it is in force.
    fn prior(self, maps: &Maps) -> Result<Option<Prior<'a>>> {
        let Self::Known { model, generation: Some(generation), .. } = self else { return Ok(None) };
        Ok((maps.applied()? == Some(generation)).then_some(Prior { model }))
    }
}

/// What is certainly in force before a change, so that what it has in common with the change is not even
/// compiled.
#[derive(Clone, Copy, Debug)]
struct Prior<'a> {
    model: &'a Model,
}

/// What staging knows besides the models.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    prior: Option<Prior<'a>>,
    indexes: &'a Indexes,
    /// See [`Staged::moved`]. What has such an end is not compared with the kernel's results: it still has
    /// the end that is in force.
    moved: &'a BTreeMap<u32, u64>,
}

impl Context<'_> {
    /// Whether what has this counter ends otherwise after the change.
    fn is_moved(&self, counter: u32) -> bool {
        self.moved.contains_key(&counter)
    }
}

impl Enforcer {
    /// Compiles every interface's policy and filter, and the blocks of the host, and writes those that
    /// differ beside the active ones.
    ///
    /// # Errors
    /// Something does not fit, or the kernel refuses it; what is active stays so.
    pub(super) fn stage(
        &self,
        mut maps: Maps,
        before: Before<'_>,
        model: &Model,
    ) -> Result<Staged> {
        let mut progress = Progress::new();
        let mut interner = PolicyInterner::default();
        let addresses = self.addresses(model)?;
        let known = match before {
            Before::Known { model, addresses, .. } => {
                compile(&mut interner, &Policies::new(), model, addresses)?
            }
            Before::Unknown => Policies::new(),
        };
        let policies = compile(&mut interner, &known, model, &addresses)?;
        // What a process that was killed has left.
        maps.free_filters()?;
        maps.free_blocks()?;
        let prior = before.prior(&maps)?;

        // Everything that is active before or after has a counter: those of old rules are removed last.
        // Rules that are stored but not active, as after a reboot, have none yet.
        let (listed, old_listed) = (listed(model), before.model().map(listed).unwrap_or_default());
        let rules = union(numbers(&interner, &policies), &listed);
        let mut are_active = before.model().is_some()
            && (prior.is_some() || old_listed.is_empty() && !maps.has_filters_or_blocks()?);
        for (slot, known) in &known {
            are_active = are_active && maps.is_active(*slot, &known.policy)?;
        }
        let counted = if are_active {
            union(numbers(&interner, &known), &old_listed)
        } else {
            maps.counted_rules()?
        };
        let removed: Vec<u32> = without(&counted, &rules).collect();
        maps.require_counters(rules.len() + removed.len())?;
        maps.add_rule_counters(without(&rules, &counted))?;

        let indexes = union(union(listed, &old_listed), &timed(&policies));
        let indexes = Indexes::read(&maps, &indexes)?;
        let (entries, blocked) =
            (filters::entries(model, &indexes), blocks::resolve(model, &indexes));
        let mut now = ends(&policies, &entries, &blocked, &indexes);
        let moved = match before.model() {
            Some(model) if !now.is_empty() => {
                let old = filters::entries(model, &indexes);
                let old = ends(&known, &old, &blocks::resolve(model, &indexes), &indexes);
                split_moved(&mut now, &old)
            }
            _ => BTreeMap::new(),
        };
        maps.set_deadlines(&now)?;
        let context = Context { prior, indexes: &indexes, moved: &moved };
        let filters = filters::stage(&maps, context, (model, &entries), &mut progress)?;
        let blocks = blocks::stage(&mut maps, context, (before.model(), &blocked), &mut progress)?;

        let mut wanted = Vec::new();
        for (slot, compiled) in &policies {
            let known = known.get(slot).map(|known| &known.policy);
            let flags = Flags {
                // Emergency mode enforces, also in audit mode.
                audit: !model.is_panicking
                    && model.interfaces.get(slot).is_some_and(|one| one.mode == Mode::Audit),
                blocks: blocks.are_any,
                filter: filters.get(slot).copied(),
            };
            let one =
                Wanted { slot: *slot, interner: &interner, policy: &compiled.policy, known, flags };
            let is_written =
                maps.is_current(&one)? && (before.model().is_some() || maps.is_complete(&one)?);
            if !is_written {
                wanted.push(one);
            }
        }
        let plans = wanted.iter().map(|one| Ok((one, maps.plan(one)?)));
        let plans = plans.collect::<Result<Vec<_>>>()?;
        let written = plans.iter().filter(|(_, plan)| plan.writes());
        progress.expect_more(written.map(|(one, _)| one.policy.prefixes()).sum());
        let mut shadows = BTreeMap::new();
        for (one, plan) in plans {
            let shadow = maps.shadow(one, plan, &mut |done| progress.advance(done))?;
            shadows.insert(one.slot, shadow);
        }
        maps.publish(&shadows.values().collect::<Vec<_>>())?;
        for (slot, shadow) in &shadows {
            let old = known.get(slot).map_or(&[][..], |known| &known.rules);
            let rules = &policies[slot].rules;
            if let Some(interface) = model.interfaces.get(slot)
                && shadow.has_tables()
                && !rules.iter().any(|rule| context.is_moved(indexes.of(rule.number)))
            {
                verify(&maps, shadow, interface, old, rules)?;
            }
        }
        Ok(Staged { maps, shadows, blocks: blocks.shadow, removed, moved, addresses })
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
        // Where the wall clock was set, the tables are of other ends than the model has now.
        let generation = (!transaction.ends_moved()).then_some(transaction.generation());
        let in_force = self.in_force(maps.applied()?);
        let (model, generation) = match &in_force {
            Some(in_force) => (&*in_force.model, generation.and(Some(in_force.generation))),
            None => (transaction.before(), generation),
        };
        let before = Before::Known { model, addresses: &addresses, generation };
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

    /// Makes everything active and removes the counters of what is in force nowhere any more. `generation`
    /// is that of the store which has exactly this, if it has it already.
    ///
    /// # Errors
    /// The kernel refuses a write. `reconcile` completes it: the store is changed already.
    pub(super) fn flip(self, generation: Option<u64>) -> Result<Maps> {
        self.activate()?.settle(generation)
    }

    /// The first part of [`Self::flip`]: packets that arrive afterwards meet what is new.
    ///
    /// # Errors
    /// As [`Self::flip`].
    pub(super) fn activate(mut self) -> Result<Activated> {
        let shadows: Vec<_> = std::mem::take(&mut self.shadows).into_values().collect();
        let is_same = shadows.is_empty() && self.blocks.is_none() && self.moved.is_empty();
        if !is_same {
            let mut activate = || {
                self.maps.set_applied(None)?;
                self.maps.set_deadlines(&self.moved)?;
                self.maps.activate(&shadows, self.blocks.as_ref())
            };
            activate().context(NOT_ACTIVE)?;
        }
        let Self { maps, blocks, removed, .. } = self;
        Ok(Activated { maps, shadows, blocks, removed, is_same })
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

/// The error of a change that the store has.
const NOT_ACTIVE: &str = "stored, but perhaps not yet active";

/// Policies that are active; what they have replaced is not released yet.
#[must_use = "what was replaced is not released"]
pub(super) struct Activated {
    maps: Maps,
    shadows: Vec<Shadow>,
    blocks: Option<BlockShadow>,
    removed: Vec<u32>,
    is_same: bool,
}

impl Activated {
    /// Whether nothing was replaced, so that no packet is waited for.
    pub(super) const fn is_same(&self) -> bool {
        self.is_same
    }

    /// The second part of [`Staged::flip`].
    ///
    /// # Errors
    /// As [`Staged::flip`].
    pub(super) fn settle(self, generation: Option<u64>) -> Result<Maps> {
        let Self { mut maps, shadows, blocks, removed, is_same } = self;
        if !is_same {
            maps.settle(&shadows, blocks).context(NOT_ACTIVE)?;
        }
        maps.set_applied(generation).context(NOT_ACTIVE)?;
        let removed = maps.remove_rule_counters(&removed);
        removed.context("stored and active, but counters of removed rules are left")?;
        Ok(maps)
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
    let from = boot::nanoseconds()?;
    let results = maps.probe(shadow, &probes(old, new))?;
    let asked = Asked { from, to: boot::nanoseconds()? };
    check(new, interface.tracking, asked, &results)
        .map_err(|error| refused(&format!("policy of {}", interface.device), &error))
}

/// The error that tables give other results than what they were compiled from.
fn refused(what: &str, why: &dyn Display) -> anyhow::Error {
    let hint = "this is a bug in secgroup, and what was active before stays so: please report it with the \
                output of `secgroup export`";
    DataplaneError::new(format!("{what}: {why}"), hint).into()
}

/// The sorted numbers that are not among the other sorted ones.
fn without(numbers: &[u32], others: &[u32]) -> impl Iterator<Item = u32> {
    numbers.iter().copied().filter(|number| others.binary_search(number).is_err())
}
