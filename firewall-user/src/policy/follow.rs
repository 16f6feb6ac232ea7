//! The compiler, where most of what it is to make is there already.
//!
//! What a network means follows from the rules that speak of it and of those that enclose it, and from
//! what needs no flow. So a rule that comes or goes changes nothing outside of its networks, unless it
//! changes what needs no flow.

use firewall_ebpf::host::mask;
use firewall_ebpf::policy::{ANY_V4, ANY_V6};
use ipnet::IpNet;

use super::book::{Book, Made, Numbered, Prefixes};
use super::compared::{enclosing, place};
use super::compile::{Family, Network, Speaking, Spoken, TooLarge, split};
use crate::model::Tracking;
use crate::policy::ResolvedRule;
use crate::policy::resolve::Difference;

impl Book {
    /// What [`Self::compile`] makes of the rules, where a policy of this book is known, and the rules that
    /// it was made of, in the order of their numbers: only what differs is compiled.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_after(
        &mut self,
        (old_rules, old): (&[ResolvedRule], &Numbered),
        rules: &[ResolvedRule],
        tracking: Tracking,
    ) -> Result<Numbered, TooLarge> {
        let changed = if self.has(old) { changed(old_rules, rules) } else { None };
        if let Some(changed) = changed {
            let v4 = Areas::new(changed.iter().filter_map(|network| match network {
                IpNet::V4(v4) => Some((v4.network().octets(), v4.prefix_len())),
                IpNet::V6(_) => None,
            }));
            let v6 = Areas::new(changed.iter().filter_map(|network| match network {
                IpNet::V4(_) => None,
                IpNet::V6(v6) => Some((v6.network().octets(), v6.prefix_len())),
            }));
            let wants_v4 = |network: &_| v4.have(network);
            let speaking = Speaking::new(rules, wants_v4, |network| v6.have(network));
            let family = Family::new(self, rules, false);
            let v4 = v4.compile(family, &old.v4, &speaking.v4, tracking, ANY_V4);
            let family = Family::new(self, rules, true);
            let v6 = v6.compile(family, &old.v6, &speaking.v6, tracking, ANY_V6);
            if let (Some(v4), Some(v6)) = (v4, v6) {
                return self.fitting(v4, v6);
            }
        }
        self.compile(rules, tracking)
    }
}

/// The networks of the rules that come or go; `None` if rules are not in the order of their numbers, or
/// if that is most of them.
fn changed(old: &[ResolvedRule], new: &[ResolvedRule]) -> Option<Vec<IpNet>> {
    let is_sorted = |rules: &[ResolvedRule]| rules.is_sorted_by_key(|rule| rule.number);
    if !is_sorted(old) || !is_sorted(new) {
        return None;
    }
    let Difference { changed, .. } = Difference::new(old, new);
    let changed: Vec<_> = changed.into_iter().flat_map(|rule| &rule.networks).copied().collect();
    let all: usize = new.iter().map(|rule| rule.networks.len()).sum();
    (changed.len() <= all / 4).then_some(changed)
}

/// Networks that something changes in, none within another: sorted. That of all addresses is not among
/// them, but looked at whatever changes.
struct Areas<const N: usize>(Vec<Network<N>>);

impl<const N: usize> Areas<N> {
    fn new(networks: impl Iterator<Item = Network<N>>) -> Self {
        let mut networks: Vec<_> = networks.filter(|(_, length)| *length > 0).collect();
        networks.sort_unstable();
        let mut areas = Self(Vec::new());
        for network in networks {
            if !areas.have(&network) {
                areas.0.push(network);
            }
        }
        areas
    }

    fn have(&self, network: &Network<N>) -> bool {
        let before = self.0.partition_point(|area| area <= network);
        network.1 == 0 || before.checked_sub(1).is_some_and(|at| encloses(&self.0[at], network))
    }

    /// The networks of a family: those of the areas from the rules that speak of them, the others as
    /// they were. `None` if those change, too.
    fn compile(
        &self,
        mut family: Family<'_>,
        old: &Made<N>,
        speaking: &[Spoken<N>],
        tracking: Tracking,
        any: u32,
    ) -> Option<Made<N>> {
        let (anywhere, mut speaking) = split(speaking);
        let any_lists = family.anywhere(anywhere, tracking);
        if *family.untracked() != old.untracked {
            return None;
        }
        let mut prefixes = Prefixes::with_capacity(old.prefixes.len() + speaking.len());
        let mut rest = &old.prefixes[..];
        for area in &self.0 {
            let (before, from) = rest.split_at(rest.partition_point(|(p, _)| place(p) < *area));
            let within = from.partition_point(|(prefix, _)| encloses(area, &place(prefix)));
            let here = speaking.partition_point(|(network, _)| encloses(area, network));
            // No area has what encloses this one, so it is what it was.
            let outer = enclosing(&old.prefixes, (area.1, area.0)).unwrap_or(any);
            prefixes.extend_from_slice(before);
            prefixes.extend(family.prefixes(&speaking[..here], outer));
            (rest, speaking) = (&from[within..], &speaking[here..]);
        }
        prefixes.extend_from_slice(rest);
        Some(Made { any: any_lists, untracked: old.untracked.clone(), prefixes })
    }
}

/// Whether a network is within another, or the same.
fn encloses<const N: usize>(outer: &Network<N>, inner: &Network<N>) -> bool {
    outer.1 <= inner.1 && mask(inner.0, outer.1) == outer.0
}
