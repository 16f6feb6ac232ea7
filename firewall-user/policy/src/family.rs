//! The compiler of one address family.

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{Range, TIMED};
use hashbrown::HashMap;

use crate::compiled::CompiledClass;
use crate::interner::{FamilyPolicy, PolicyInterner};
use crate::model::Tracking;
use crate::number::index;
use crate::prefixes::Prefixes;
use crate::ranges::{Interval, disjoint, interval};
use crate::resolve::ResolvedRule;
use crate::rules_by_prefix::{PrefixRule, split_any};
use crate::untracked::Untracked;

/// Which of several rules owns what all of them allow: one without an end, else the one that ends last, so
/// that an ended owner leaves nothing that another one still allows; then the one with the lowest number.
type Rank = (u64, u32);

/// What a rule allows in a family: the part of it that is needed for every prefix.
#[derive(Clone, Copy)]
struct Allowed {
    direction: Direction,
    interval: Interval<Rank>,
    /// Whether the rule names several networks.
    has_several: bool,
}

/// Compiles the rules of one family.
pub(crate) struct FamilyCompiler<'a> {
    interner: &'a mut PolicyInterner,
    /// By index of the rule; those of the other family's ICMP name no prefix.
    rules: Vec<Allowed>,
    /// The traffic that needs no flow, by direction.
    untracked: [Untracked; 2],
    /// Lists by rule, for prefixes that only this rule names, among several.
    of_one: HashMap<u32, [u32; 2]>,
    /// Lists by the rules that name a prefix: those of a prefix list name all its entries.
    of_several: HashMap<Box<[u32]>, [u32; 2]>,
}

impl<'a> FamilyCompiler<'a> {
    pub(crate) fn new(
        interner: &'a mut PolicyInterner,
        rules: &[ResolvedRule],
        is_v4: bool,
    ) -> Self {
        let allowed = |rule: &ResolvedRule| {
            let (low, high) = interval(rule.traffic, is_v4).unwrap_or_default();
            let (timed, before_end) =
                rule.end.map_or((0, 0), |end| (TIMED, (u64::MAX - end).max(1)));
            let range = Range { low, high, rule: rule.number | timed };
            let interval = Interval { rank: (before_end, rule.number), range };
            let has_several = rule.networks.len() > 1;
            Allowed { direction: rule.direction, interval, has_several }
        };
        let rules = rules.iter().map(allowed).collect();
        let untracked = Default::default();
        let (of_one, of_several) = (HashMap::new(), HashMap::new());
        Self { interner, rules, untracked, of_one, of_several }
    }

    /// Compiles all prefixes. `any` is the class of addresses that no prefix covers.
    pub(crate) fn compile<const N: usize>(
        mut self,
        rules: &[PrefixRule<N>],
        tracking: Tracking,
        any: u32,
    ) -> FamilyPolicy<N> {
        let (of_any, narrower) = split_any(rules);
        let any_lists = self.any(of_any, tracking);
        let prefixes = self.prefixes(narrower, any);
        FamilyPolicy { any: any_lists, untracked: self.untracked, prefixes }
    }

    /// The lists of the rules that name /0; finds from them the traffic that needs no flow.
    pub(crate) fn any<const N: usize>(
        &mut self,
        rules: &[PrefixRule<N>],
        tracking: Tracking,
    ) -> [u32; 2] {
        let rules: Vec<u32> = rules.iter().map(|(_, rule)| *rule).collect();
        let [ingress, egress] = Direction::ALL.map(|direction| self.disjoint(&rules, direction));
        if tracking == Tracking::Auto {
            self.untracked = [Untracked::new(&ingress, &egress), Untracked::new(&egress, &ingress)];
        }
        let marked = [self.untracked[0].mark(&ingress), self.untracked[1].mark(&egress)];
        marked.map(|ranges| self.interner.intern_list(&ranges))
    }

    /// The prefixes that these rules name, without /0, with their classes. All are within `outer`, the
    /// class of an enclosing prefix.
    pub(crate) fn prefixes<const N: usize>(
        &mut self,
        rules: &[PrefixRule<N>],
        outer: u32,
    ) -> Prefixes<N> {
        let mut prefixes = Prefixes::with_capacity(rules.len());
        // The prefixes that enclose the current one, the narrowest on top.
        let mut enclosing: Prefixes<N> = Vec::new();
        let mut of_prefix = Vec::new();
        for rules in rules.chunk_by(|(one, _), (other, _)| one == other) {
            let prefix = rules[0].0;
            while enclosing.last().is_some_and(|(outer, _)| !outer.encloses(&prefix)) {
                enclosing.pop();
            }
            let parent = enclosing.last().map_or(outer, |(_, class)| *class);
            of_prefix.clear();
            of_prefix.extend(rules.iter().map(|(_, rule)| *rule));
            let lists = self.lists(&of_prefix);
            if lists == [0, 0] {
                // It allows nothing that the enclosing prefix does not.
                continue;
            }
            let class = self.interner.intern_class(CompiledClass { parent, lists });
            enclosing.push((prefix, class));
            prefixes.push((prefix, class));
        }
        prefixes
    }

    /// See [`FamilyPolicy::untracked`].
    pub(crate) const fn untracked(&self) -> &[Untracked; 2] {
        &self.untracked
    }

    /// The lists, by direction, of a prefix that these rules name.
    fn lists(&mut self, rules: &[u32]) -> [u32; 2] {
        let known = match rules {
            [one] if !self.rules[index(*one)].has_several => None,
            [one] => self.of_one.get(one),
            several => self.of_several.get(several),
        };
        if let Some(lists) = known {
            return *lists;
        }
        let lists = Direction::ALL.map(|direction| {
            let own = self.disjoint(rules, direction);
            self.interner.intern_list(&self.untracked[direction as usize].without(own))
        });
        match rules {
            [one] if !self.rules[index(*one)].has_several => {}
            [one] => drop(self.of_one.insert(*one, lists)),
            several => drop(self.of_several.insert(several.into(), lists)),
        }
        lists
    }

    /// What these rules allow in one direction.
    fn disjoint(&self, rules: &[u32], direction: Direction) -> Vec<Range> {
        let rules = rules.iter().map(|rule| self.rules[index(*rule)]);
        let rules = rules.filter(|rule| rule.direction == direction);
        disjoint(&rules.map(|rule| rule.interval).collect::<Vec<_>>())
    }
}
