//! Compilation of rules that differ little from those of a known policy.
//!
//! What a prefix allows follows from the rules that name it or a prefix that encloses it, and from the
//! traffic that needs no flow. So a rule that is added or removed changes nothing outside of its
//! networks, unless it changes what needs no flow.

use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6};
use firewall_ebpf::abi::prefix::Prefix;
use ipnet::IpNet;

use crate::compile::TooLarge;
use crate::family::FamilyCompiler;
use crate::interner::{FamilyPolicy, InternedPolicy, PolicyInterner};
use crate::model::Tracking;
use crate::prefixes::{Prefixes, enclosing, prefix_v4, prefix_v6};
use crate::resolve::{Difference, ResolvedRule};
use crate::rules_by_prefix::{PrefixRule, RulesByPrefix, split_any};

impl PolicyInterner {
    /// The result of [`Self::compile`]. `old` is a policy of this interner and `old_rules` the rules it
    /// was compiled from, in the order of their numbers: only the difference is compiled.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_after(
        &mut self,
        (old_rules, old): (&[ResolvedRule], &InternedPolicy),
        rules: &[ResolvedRule],
        tracking: Tracking,
    ) -> Result<InternedPolicy, TooLarge> {
        let changed = if self.owns(old) { changed(old_rules, rules) } else { None };
        if let Some(changed) = changed {
            let v4 = Areas::new(changed.iter().filter_map(|network| match network {
                IpNet::V4(v4) => Some(prefix_v4(v4)),
                IpNet::V6(_) => None,
            }));
            let v6 = Areas::new(changed.iter().filter_map(|network| match network {
                IpNet::V4(_) => None,
                IpNet::V6(v6) => Some(prefix_v6(v6)),
            }));
            let wants_v4 = |prefix: &_| is_needed(prefix, &v4);
            let wants_v6 = |prefix: &_| is_needed(prefix, &v6);
            let by_prefix = RulesByPrefix::filtered(rules, wants_v4, wants_v6);
            let family = FamilyCompiler::new(self, rules, true);
            let v4 = v4.compile(family, &old.v4, &by_prefix.v4, tracking, ANY_V4);
            let family = FamilyCompiler::new(self, rules, false);
            let v6 = v6.compile(family, &old.v6, &by_prefix.v6, tracking, ANY_V6);
            if let (Some(v4), Some(v6)) = (v4, v6) {
                return self.checked(v4, v6);
            }
        }
        self.compile(rules, tracking)
    }
}

/// Whether the rules that name a prefix are needed: those of the areas, and those of /0, which decide
/// what needs no flow.
fn is_needed<const N: usize>(prefix: &Prefix<N>, areas: &Areas<N>) -> bool {
    prefix.is_any() || areas.contain(prefix)
}

/// The networks of the rules that are added or removed; `None` if rules are not in the order of their
/// numbers, or if these are many of all networks.
fn changed(old: &[ResolvedRule], new: &[ResolvedRule]) -> Option<Vec<IpNet>> {
    let is_sorted = |rules: &[ResolvedRule]| rules.is_sorted_by_key(|rule| rule.number);
    if !is_sorted(old) || !is_sorted(new) {
        return None;
    }
    let Difference { changed, .. } = Difference::new(old, new);
    let count = |rules: &mut dyn Iterator<Item = &ResolvedRule>| -> usize {
        rules.map(|rule| rule.networks.len()).sum()
    };
    let is_small = count(&mut changed.iter().copied()) <= count(&mut new.iter()) / 4;
    is_small.then(|| changed.into_iter().flat_map(|rule| &rule.networks).collect())
}

/// The prefixes within which something changes: sorted, none within another, /0 not among them.
struct Areas<const N: usize>(Vec<Prefix<N>>);

impl<const N: usize> Areas<N> {
    fn new(prefixes: impl Iterator<Item = Prefix<N>>) -> Self {
        let mut prefixes: Vec<_> = prefixes.filter(|prefix| !prefix.is_any()).collect();
        prefixes.sort_unstable();
        let mut areas = Self(Vec::new());
        for prefix in prefixes {
            if !areas.contain(&prefix) {
                areas.0.push(prefix);
            }
        }
        areas
    }

    /// Whether a prefix is within an area.
    fn contain(&self, prefix: &Prefix<N>) -> bool {
        let before = self.0.partition_point(|area| area <= prefix);
        before.checked_sub(1).is_some_and(|at| self.0[at].encloses(prefix))
    }

    /// The prefixes of a family: those within the areas from the rules that name them, the others as
    /// in the old policy. `None` if those change, too.
    fn compile(
        &self,
        mut family: FamilyCompiler<'_>,
        old: &FamilyPolicy<N>,
        rules: &[PrefixRule<N>],
        tracking: Tracking,
        any: u32,
    ) -> Option<FamilyPolicy<N>> {
        let (of_any, mut rules) = split_any(rules);
        let any_lists = family.any(of_any, tracking);
        if *family.untracked() != old.untracked {
            return None;
        }
        let mut prefixes = Prefixes::with_capacity(old.prefixes.len() + rules.len());
        let mut rest = &old.prefixes[..];
        for area in &self.0 {
            let (before, from) = rest.split_at(rest.partition_point(|(prefix, _)| prefix < area));
            let within = from.partition_point(|(prefix, _)| area.encloses(prefix));
            let here = rules.partition_point(|(prefix, _)| area.encloses(prefix));
            // What encloses this area is in no area, so its class is as in the old policy.
            let outer = enclosing(&old.prefixes, *area).unwrap_or(any);
            prefixes.extend_from_slice(before);
            prefixes.extend(family.prefixes(&rules[..here], outer));
            (rest, rules) = (&from[within..], &rules[here..]);
        }
        prefixes.extend_from_slice(rest);
        Some(FamilyPolicy { any: any_lists, untracked: old.untracked.clone(), prefixes })
    }
}
