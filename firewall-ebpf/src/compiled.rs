//! A compiled policy, as the compiler of userspace makes it, and its lists as they lie in pages.

use std::collections::BTreeMap;

use crate::policy::{
    ANY_V4, ANY_V6, Class, Has, LEAF, List, NO_CLASS, PAGE, Page, Range, UNTRACKED,
};

/// A policy in the form of the kernel's tables, but without places in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledPolicy {
    /// Class by network (first address in network byte order) and prefix length, without /0.
    pub prefixes_v4: BTreeMap<(u8, [u8; 4]), u32>,
    /// The same for IPv6.
    pub prefixes_v6: BTreeMap<(u8, [u8; 16]), u32>,
    /// The first two are [`ANY_V4`] and [`ANY_V6`]; a parent comes before its children.
    pub classes: Vec<CompiledClass>,
    /// What classes allow: each list sorted and disjoint, no two the same, the first one empty.
    pub lists: Vec<Vec<Range>>,
}

/// What a class is: prefixes that agree in it share the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompiledClass {
    /// The class of the enclosing prefix, or [`NO_CLASS`].
    pub parent: u32,
    /// What it allows, by direction, as numbers of lists.
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

    /// What the kernel is told of its contents.
    #[must_use]
    pub fn has(&self) -> Has {
        let any = [ANY_V4, ANY_V6].map(|any| {
            self.classes.get(index(any)).map_or([&[][..]; 2], |any| any.lists.map(|l| self.list(l)))
        });
        Has::of([!self.prefixes_v4.is_empty(), !self.prefixes_v6.is_empty()], any)
    }

    /// A list by its number.
    #[must_use]
    pub fn list(&self, number: u32) -> &[Range] {
        self.lists.get(index(number)).map_or(&[], |list| list)
    }

    /// Every list placed from page 0 on, and the rows that point at them.
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

    /// The numbers of the rules that own a range, again and again.
    pub fn rules(&self) -> impl Iterator<Item = u32> {
        self.lists.iter().flatten().map(|range| range.rule & !UNTRACKED)
    }
}

impl Has {
    /// Of a policy with prefixes of these families, and these ranges in its "any" classes, by
    /// direction.
    #[must_use]
    pub fn of(prefixes: [bool; 2], any: [[&[Range]; 2]; 2]) -> Self {
        Self {
            prefixes,
            untracked: any.map(|lists| lists.iter().any(|list| has_untracked(list))),
            anywhere: any.map(|lists| lists.map(|list| !list.is_empty())),
        }
    }
}

fn has_untracked(list: &[Range]) -> bool {
    list.iter().any(|range| range.rule & UNTRACKED != 0)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Where lists go, one behind the other: pages from some page on.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    /// The number of the first of `pages`.
    pub first: u32,
    /// The word that is free next, counted from page 0.
    pub next: u32,
    /// The pages that have something new in them.
    pub pages: Vec<Page>,
}

impl Arena {
    /// Goes on at a word that is free. `page` is what its page holds before it.
    #[must_use]
    pub fn resume(next: u32, page: Page) -> Self {
        Self { first: next / PAGE, next, pages: vec![page] }
    }

    /// Places a list.
    pub fn place(&mut self, list: &[Range]) -> List {
        let len = u32::try_from(list.len()).unwrap_or(u32::MAX);
        match *list {
            [] => List::EMPTY,
            [Range { low, high, rule }] => List { len, at: low, high, rule },
            _ if len <= LEAF => List { len, at: self.leaf(list), high: 0, rule: 0 },
            _ => List { len, at: self.long(list), high: 0, rule: 0 },
        }
    }

    fn leaf(&mut self, list: &[Range]) -> u32 {
        let words = list.iter().map(|range| range.low);
        let words = words.chain(list.iter().map(|range| range.high));
        let words: Vec<u32> = words.chain(list.iter().map(|range| range.rule)).collect();
        self.write(&words)
    }

    fn long(&mut self, list: &[Range]) -> u32 {
        let leaves = list.chunks(index(LEAF));
        // Room for the index first, so that the leaves can follow one another.
        let words: Vec<u32> = [0].into_iter().chain(leaves.clone().map(|l| l[0].low)).collect();
        let at = self.write(&words);
        self.next = self.next.next_multiple_of(PAGE);
        let first_leaf = self.next / PAGE;
        for leaf in leaves {
            self.next = self.next.next_multiple_of(PAGE);
            self.leaf(leaf);
        }
        self.put(at, first_leaf);
        at
    }

    /// Writes words that fit into a page, all into one.
    fn write(&mut self, words: &[u32]) -> u32 {
        let len = u32::try_from(words.len()).unwrap_or(u32::MAX);
        if self.next % PAGE + len > PAGE {
            self.next = self.next.next_multiple_of(PAGE);
        }
        let at = self.next;
        for (offset, word) in (0..).zip(words) {
            self.put(at + offset, *word);
        }
        self.next += len;
        at
    }

    fn put(&mut self, at: u32, word: u32) {
        let page = index(at / PAGE - self.first);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, [0; PAGE as usize]);
        }
        self.pages[page][index(at % PAGE)] = word;
    }
}
