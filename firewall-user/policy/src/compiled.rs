//! A compiled policy by itself: prefixes, classes and lists.

use std::collections::BTreeMap;

use firewall_ebpf::abi::policy::{
    ANY_V4, ANY_V6, Class, Has, List, NO_CLASS, Range, UNTRACKED, rule_number,
};
use firewall_ebpf::abi::prefix::Prefix;

use crate::arena::Arena;
use crate::number::index;

/// A policy in the form of the kernel's tables, before its lists are placed in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledPolicy {
    /// Class by prefix, without /0.
    pub prefixes_v4: BTreeMap<Prefix<4>, u32>,
    /// The same for IPv6.
    pub prefixes_v6: BTreeMap<Prefix<16>, u32>,
    /// The first two are [`ANY_V4`] and [`ANY_V6`]; a parent comes before its children.
    pub classes: Vec<CompiledClass>,
    /// What classes allow: each list sorted and disjoint, no two the same, the first one empty.
    pub lists: Vec<Vec<Range>>,
}

/// A class: prefixes that agree in parent and lists share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompiledClass {
    /// The class of the enclosing prefix, or [`NO_CLASS`].
    pub parent: u32,
    /// The numbers of the lists of what it allows, by direction.
    pub lists: [u32; 2],
}

impl CompiledClass {
    fn row(&self, lists: &[List]) -> Class {
        let at = |list: u32| lists.get(index(list)).copied().unwrap_or(List::EMPTY);
        Class { parent: self.parent, lists: self.lists.map(at) }
    }
}

impl CompiledPolicy {
    /// A policy that allows nothing.
    #[must_use]
    pub fn deny_all() -> Self {
        let any = CompiledClass { parent: NO_CLASS, lists: [0, 0] };
        const { assert!(ANY_V4 == 0 && ANY_V6 == 1) };
        Self { classes: vec![any, any], lists: vec![Vec::new()], ..Self::default() }
    }

    /// Which parts the policy has, for the active word.
    #[must_use]
    pub fn has(&self) -> Has {
        let any = [ANY_V4, ANY_V6].map(|any| {
            self.classes.get(index(any)).map_or([&[][..]; 2], |any| any.lists.map(|l| self.list(l)))
        });
        contents([!self.prefixes_v4.is_empty(), !self.prefixes_v6.is_empty()], any)
    }

    /// A list by its number.
    #[must_use]
    pub fn list(&self, number: u32) -> &[Range] {
        self.lists.get(index(number)).map_or(&[], |list| list)
    }

    /// Every list placed in pages from page 0 on, and the rows of the classes, which point at them.
    #[must_use]
    pub fn lay_out(&self) -> (Arena, Vec<Class>) {
        let mut arena = Arena::default();
        let lists: Vec<List> = self.lists.iter().map(|list| arena.place(list)).collect();
        let rows = self.classes.iter().map(|class| class.row(&lists)).collect();
        (arena, rows)
    }

    /// How many ranges there are.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    /// The numbers of the rules that own a range, once for each range.
    pub fn rules(&self) -> impl Iterator<Item = u32> {
        self.lists.iter().flatten().map(|range| rule_number(range.rule))
    }
}

/// Which parts a policy has: `prefixes` by family, and the ranges of its two "any" classes by family
/// and direction.
pub(crate) fn contents(prefixes: [bool; 2], any: [[&[Range]; 2]; 2]) -> Has {
    let has_untracked = |list: &[Range]| list.iter().any(|range| range.rule & UNTRACKED != 0);
    Has {
        prefixes,
        untracked: any.map(|lists| lists.iter().any(|list| has_untracked(list))),
        anywhere: any.map(|lists| lists.map(|list| !list.is_empty())),
    }
}
