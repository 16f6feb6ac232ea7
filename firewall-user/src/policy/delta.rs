//! What has to be written where one policy follows another in the same tables.
//!
//! Class rows and the classes of prefixes are there twice, once for each half. Before the swap only
//! the other half is written, so that packets see the old policy whole; after it the half that was in
//! force is made equal, so that the next change finds both the same. Lists of ranges are never
//! overwritten: a new one takes free words, and what no row points at any more is lost until the
//! tables are made anew.

use std::collections::{BTreeMap, HashMap, HashSet};

use firewall_ebpf::compiled::{Arena, CompiledPolicy};
use firewall_ebpf::host::mask;
use firewall_ebpf::policy::{ANY_V4, ANY_V6, Class, List, NO_CLASS, PAGE, Page, Range};

/// A network: length of its prefix, and its first address in network byte order.
pub type Prefix<const N: usize> = (u8, [u8; N]);

/// The tables in which the old policy is in force, as far as a plan has to look into them.
pub trait Bank {
    /// Why the tables cannot be read.
    type Error;

    /// The half that is in force.
    fn half(&self) -> usize;

    /// What is free in them.
    fn room(&self) -> Room;

    /// The class of an IPv4 prefix that is there.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    fn class_v4(&self, prefix: &Prefix<4>) -> Result<u32, Self::Error>;

    /// The class of an IPv6 prefix that is there.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    fn class_v6(&self, prefix: &Prefix<16>) -> Result<u32, Self::Error>;

    /// The row of a class in the half that is in force.
    ///
    /// # Errors
    /// It cannot be read.
    fn row(&self, class: u32) -> Result<Class, Self::Error>;

    /// A page of ranges.
    ///
    /// # Errors
    /// It cannot be read.
    fn page(&self, number: u32) -> Result<Page, Self::Error>;
}

/// What is taken in a bank and how much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The lowest class that was never given out.
    pub next_class: u32,
    /// How many classes the table has.
    pub classes: u32,
    /// The lowest word of the pages that was never written.
    pub next_word: u32,
    /// How many pages there are.
    pub pages: u32,
}

/// Writes into the tables of a bank, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Pages by number.
    pub pages: Vec<(u32, Page)>,
    /// Rows of both halves by class.
    pub rows: Vec<(u32, [Class; 2])>,
    /// To the IPv4 prefixes.
    pub v4: PrefixWrites<4>,
    /// To the IPv6 prefixes.
    pub v6: PrefixWrites<16>,
}

/// Writes into a trie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixWrites<const N: usize> {
    /// Classes in both halves.
    pub put: Vec<(Prefix<N>, [u32; 2])>,
    /// Those that go.
    pub removed: Vec<Prefix<N>>,
}

impl Writes {
    /// How many entries are written or removed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pages.len()
            + self.rows.len()
            + self.v4.put.len()
            + self.v4.removed.len()
            + self.v6.put.len()
            + self.v6.removed.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A change of policy within a bank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Before the swap: what packets see stays the old policy.
    pub before: Writes,
    /// After it, when no packet looks into the old half any more.
    pub after: Writes,
    /// What is free afterwards.
    pub room: Room,
}

/// Plans a change; `None` where the bank has no room for it, and has to be made anew.
///
/// # Errors
/// The bank's.
pub fn plan<B: Bank>(
    old: &CompiledPolicy,
    new: &CompiledPolicy,
    bank: &B,
) -> Result<Option<Delta>, B::Error> {
    let v4 = compare(&old.prefixes_v4, &new.prefixes_v4);
    let v6 = compare(&old.prefixes_v6, &new.prefixes_v6);
    let matched = matched(&v4.overlaps, &v6.overlaps);
    let room = bank.room();
    let arena = if room.next_word.is_multiple_of(PAGE) {
        Arena { first: room.next_word / PAGE, next: room.next_word, pages: Vec::new() }
    } else {
        Arena::resume(room.next_word, bank.page(room.next_word / PAGE)?)
    };
    let mut planner = Planner {
        old,
        new,
        bank,
        samples: v4
            .samples
            .into_iter()
            .map(|(class, prefix)| (class, Sample::V4(prefix)))
            .chain(v6.samples.into_iter().map(|(class, prefix)| (class, Sample::V6(prefix))))
            .collect(),
        old_lists: old.lists.iter().map(Vec::as_slice).zip(0..).collect(),
        matched,
        old_ids: HashMap::new(),
        new_ids: HashMap::new(),
        placed: HashMap::new(),
        arena,
        next_class: room.next_class,
        delta: Delta::default(),
    };
    planner.rows()?;
    let tries = (&old.prefixes_v4, &new.prefixes_v4, ANY_V4);
    let (v4_before, v4_after) = planner.prefixes(tries, v4.all)?;
    let tries = (&old.prefixes_v6, &new.prefixes_v6, ANY_V6);
    let (v6_before, v6_after) = planner.prefixes(tries, v6.all)?;
    let Planner { delta: Delta { before, after, .. }, .. } = &mut planner;
    (before.v4, before.v6) = (v4_before, v6_before);
    (after.v4, after.v6) = (v4_after, v6_after);
    Ok(planner.finish(room))
}

/// A value in force, and the one that is to be, as they lie in the two halves.
fn halves<T>(in_force: usize, was: T, is: T) -> [T; 2] {
    if in_force == 0 { [was, is] } else { [is, was] }
}

/// What two tries of a family have in common, and what not.
struct Compared<const N: usize> {
    /// How many prefixes are of which old and which new class.
    overlaps: HashMap<(u32, u32), u32>,
    /// Every prefix with its old and new class.
    all: Vec<(Prefix<N>, [Option<u32>; 2])>,
    /// A prefix of each old class.
    samples: HashMap<u32, Prefix<N>>,
}

fn compare<const N: usize>(
    old: &BTreeMap<Prefix<N>, u32>,
    new: &BTreeMap<Prefix<N>, u32>,
) -> Compared<N> {
    let mut compared =
        Compared { overlaps: HashMap::new(), all: Vec::new(), samples: HashMap::new() };
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let next_old = olds.peek().map(|(prefix, class)| (**prefix, **class));
        let next_new = news.peek().map(|(prefix, class)| (**prefix, **class));
        let (prefix, was, is) = match (next_old, next_new) {
            (None, None) => break,
            (Some((o, was)), Some((n, is))) if o == n => (o, Some(was), Some(is)),
            (Some((o, was)), Some((n, _))) if o < n => (o, Some(was), None),
            (Some((o, was)), None) => (o, Some(was), None),
            (_, Some((n, is))) => (n, None, Some(is)),
        };
        if let Some(was) = was {
            olds.next();
            compared.samples.entry(was).or_insert(prefix);
        }
        if is.is_some() {
            news.next();
        }
        if let (Some(was), Some(is)) = (was, is) {
            *compared.overlaps.entry((was, is)).or_default() += 1;
        }
        compared.all.push((prefix, [was, is]));
    }
    compared
}

/// Which new class goes on in the row of which old one: where most prefixes stay what they are.
fn matched(v4: &HashMap<(u32, u32), u32>, v6: &HashMap<(u32, u32), u32>) -> HashMap<u32, u32> {
    let mut overlaps: Vec<_> = v4.iter().chain(v6).map(|(pair, count)| (*count, *pair)).collect();
    // The largest first; where counts agree the order is that of the numbers.
    overlaps.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut taken = HashSet::from([ANY_V4, ANY_V6]);
    let mut matched = HashMap::from([(ANY_V4, ANY_V4), (ANY_V6, ANY_V6)]);
    for (_, (old, new)) in overlaps {
        if !matched.contains_key(&new) && taken.insert(old) {
            matched.insert(new, old);
        }
    }
    matched
}

/// The old and the new trie of a family, and the class of what neither has.
type Tries<'a, const N: usize> = (&'a BTreeMap<Prefix<N>, u32>, &'a BTreeMap<Prefix<N>, u32>, u32);

#[derive(Clone, Copy)]
enum Sample {
    V4(Prefix<4>),
    V6(Prefix<16>),
}

struct Planner<'a, B> {
    old: &'a CompiledPolicy,
    new: &'a CompiledPolicy,
    bank: &'a B,
    /// A prefix of each old class.
    samples: HashMap<u32, Sample>,
    /// Numbers of the old lists by what they hold.
    old_lists: HashMap<&'a [Range], u32>,
    /// Old classes by the new ones that go on in their rows.
    matched: HashMap<u32, u32>,
    /// Where old and new classes are in the tables.
    old_ids: HashMap<u32, u32>,
    new_ids: HashMap<u32, u32>,
    /// Where new lists are.
    placed: HashMap<u32, List>,
    arena: Arena,
    next_class: u32,
    delta: Delta,
}

impl<B: Bank> Planner<'_, B> {
    /// Plans the rows that are new or say something else.
    fn rows(&mut self) -> Result<(), B::Error> {
        for (number, class) in (0_u32..).zip(&self.new.classes) {
            let before = self.matched.get(&number).copied();
            if before.is_some_and(|before| self.is_same(before, number)) {
                continue;
            }
            let id = self.new_id(number)?;
            let was = match before {
                Some(_) => self.bank.row(id)?,
                None => Class::EMPTY,
            };
            let mut row = Class { parent: NO_CLASS, ..was };
            if class.parent != NO_CLASS {
                row.parent = self.new_id(class.parent)?;
            }
            for (direction, list) in class.lists.into_iter().enumerate() {
                let stays = before.is_some_and(|before| {
                    let before = self.old.classes[index(before)].lists[direction];
                    self.old.list(before) == self.new.list(list)
                });
                if !stays {
                    row.lists[direction] = self.place(list);
                }
            }
            self.delta.before.rows.push((id, halves(self.bank.half(), was, row)));
            self.delta.after.rows.push((id, [row; 2]));
        }
        Ok(())
    }

    /// Whether a new class is what the old one in whose row it goes on was.
    fn is_same(&self, before: u32, number: u32) -> bool {
        let (was, is) = (self.old.classes[index(before)], self.new.classes[index(number)]);
        let same_parent =
            is.parent == NO_CLASS || self.matched.get(&is.parent) == Some(&was.parent);
        let same = |direction: usize| {
            self.old_lists.get(self.new.list(is.lists[direction])) == Some(&was.lists[direction])
        };
        same_parent && same(0) && same(1)
    }

    fn place(&mut self, list: u32) -> List {
        let (arena, new) = (&mut self.arena, self.new);
        *self.placed.entry(list).or_insert_with(|| arena.place(new.list(list)))
    }

    /// Plans what changes in a trie: before the swap, and after it.
    fn prefixes<const N: usize>(
        &mut self,
        (old, new, any): Tries<'_, N>,
        all: Vec<(Prefix<N>, [Option<u32>; 2])>,
    ) -> Result<(PrefixWrites<N>, PrefixWrites<N>), B::Error> {
        let (mut before, mut after) = (PrefixWrites::default(), PrefixWrites::default());
        for (prefix, classes) in all {
            if let [Some(was), Some(is)] = classes
                && self.matched.get(&is) == Some(&was)
            {
                continue;
            }
            // Where there is no such prefix, its addresses are of the class of the enclosing one.
            let was = classes[0].unwrap_or_else(|| enclosing(old, prefix).unwrap_or(any));
            let is = classes[1].unwrap_or_else(|| enclosing(new, prefix).unwrap_or(any));
            let (was, is) = (self.old_id(was)?, self.new_id(is)?);
            before.put.push((prefix, halves(self.bank.half(), was, is)));
            match classes[1] {
                Some(_) => after.put.push((prefix, [is; 2])),
                None => after.removed.push(prefix),
            }
        }
        Ok((before, after))
    }

    /// Where an old class is in the tables.
    fn old_id(&mut self, class: u32) -> Result<u32, B::Error> {
        if class <= ANY_V6 {
            return Ok(class);
        }
        if let Some(id) = self.old_ids.get(&class) {
            return Ok(*id);
        }
        let id = match self.samples.get(&class) {
            Some(Sample::V4(prefix)) => self.bank.class_v4(prefix)?,
            Some(Sample::V6(prefix)) => self.bank.class_v6(prefix)?,
            // Every class but the two has a prefix.
            None => NO_CLASS,
        };
        self.old_ids.insert(class, id);
        Ok(id)
    }

    /// Where a new class is to be.
    fn new_id(&mut self, class: u32) -> Result<u32, B::Error> {
        if let Some(before) = self.matched.get(&class).copied() {
            return self.old_id(before);
        }
        let next = &mut self.next_class;
        Ok(*self.new_ids.entry(class).or_insert_with(|| {
            *next += 1;
            *next - 1
        }))
    }

    fn finish(mut self, room: Room) -> Option<Delta> {
        self.delta.room = Room { next_class: self.next_class, next_word: self.arena.next, ..room };
        if self.next_class > room.classes || self.arena.next > room.pages.saturating_mul(PAGE) {
            return None;
        }
        let first = self.arena.first;
        if self.arena.next != room.next_word {
            self.delta.before.pages = (first..).zip(self.arena.pages).collect();
        }
        Some(self.delta)
    }
}

/// The class of the longest prefix that is shorter than this one and covers it.
fn enclosing<const N: usize>(
    prefixes: &BTreeMap<Prefix<N>, u32>,
    (length, octets): Prefix<N>,
) -> Option<u32> {
    (1..length).rev().find_map(|length| prefixes.get(&(length, mask(octets, length))).copied())
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
