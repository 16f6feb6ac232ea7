//! The writes that turn the tables of one policy into those of another.
//!
//! Class rows and the classes of prefixes exist twice, once for each half. Before the swap only the
//! inactive half is written, so that packets use the old policy alone; after it the half that was
//! active is made equal, so that both are the same before the next change. Lists of ranges are never
//! overwritten: a new one is written to free words, and the words of a list that no row refers to any
//! more stay occupied until the tables are rewritten.

use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, Class, List, NO_CLASS, PAGE, Page};
use firewall_ebpf::abi::prefix::Prefix;
use hashbrown::HashMap;

use crate::arena::Arena;
use crate::compare::{Changed, Common, compare, moved};
use crate::interner::{InternedPolicy, PolicyInterner};
use crate::number::index;
use crate::prefixes::{Prefixes, enclosing, find};
pub use crate::writes::{Delta, PrefixWrites, Room, Writes};

/// The tables in which the old policy is active, as far as a plan reads them.
pub trait Bank {
    /// Why the tables cannot be read.
    type Error;

    /// The active half.
    fn half(&self) -> usize;

    /// How much of them is used, and their sizes.
    fn room(&self) -> Room;

    /// The class of an IPv4 prefix of the old policy, in the active half.
    ///
    /// # Errors
    /// The prefix is missing, or cannot be read.
    fn class_v4(&self, prefix: &Prefix<4>) -> Result<u32, Self::Error>;

    /// The class of an IPv6 prefix of the old policy, in the active half.
    ///
    /// # Errors
    /// The prefix is missing, or cannot be read.
    fn class_v6(&self, prefix: &Prefix<16>) -> Result<u32, Self::Error>;

    /// The row of a class in the active half.
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

/// Writes that take less time than new tables do.
const FEW: usize = 16_384;

/// Plans a change; `None` where the bank has no room for it and has to be rewritten, where the whole policy
/// is less to write, and where a policy is of another interner. Policies of one interner have the same
/// numbers for what they have in common: apart from one pass over the prefixes of both, the cost is that of
/// the difference.
///
/// # Errors
/// Those of the bank.
pub fn plan<B: Bank>(
    interner: &PolicyInterner,
    old: &InternedPolicy,
    new: &InternedPolicy,
    bank: &B,
) -> Result<Option<Delta>, B::Error> {
    if !interner.owns(old) || !interner.owns(new) {
        return Ok(None);
    }
    let mut common = Common::new(interner.class_count());
    let v4 = compare(&old.v4.prefixes, &new.v4.prefixes, &mut common);
    let v6 = compare(&old.v6.prefixes, &new.v6.prefixes, &mut common);
    // A prefix that comes or goes is written before the swap and after it, those of a whole policy once.
    let whole = new.prefixes().max(FEW);
    if 2 * (one_sided(&v4) + one_sided(&v6)) > whole {
        return Ok(None);
    }
    let moved = moved(&common, &v4, &v6);
    let room = bank.room();
    let arena = if room.next_word.is_multiple_of(PAGE) {
        Arena { first: room.next_word / PAGE, next: room.next_word, pages: Vec::new() }
    } else {
        Arena::resume(room.next_word, bank.page(room.next_word / PAGE)?)
    };
    let mut planner = Planner {
        interner,
        old,
        new,
        bank,
        common,
        moved,
        old_ids: HashMap::new(),
        new_ids: HashMap::new(),
        placed: HashMap::new(),
        arena,
        next_class: room.next_class,
        delta: Delta::default(),
    };
    planner.rows()?;
    let tries = [&old.v4.prefixes, &new.v4.prefixes];
    let (v4_before, v4_after) = planner.prefixes(tries, ANY_V4, v4)?;
    let tries = [&old.v6.prefixes, &new.v6.prefixes];
    let (v6_before, v6_after) = planner.prefixes(tries, ANY_V6, v6)?;
    let Planner { delta: Delta { before, after, .. }, .. } = &mut planner;
    (before.v4, before.v6) = (v4_before, v6_before);
    (after.v4, after.v6) = (v4_after, v6_after);
    let is_less = |delta: &Delta| delta.before.len() + delta.after.len() <= whole;
    Ok(planner.finish(room).filter(is_less))
}

/// How many prefixes only one of the policies has.
fn one_sided<const N: usize>(changed: &[Changed<N>]) -> usize {
    changed.iter().filter(|(_, classes)| classes.contains(&None)).count()
}

/// The old value in the active half, and the new one in the other.
fn halves<T>(active: usize, was: T, is: T) -> [T; 2] {
    if active == 0 { [was, is] } else { [is, was] }
}

struct Planner<'a, B> {
    interner: &'a PolicyInterner,
    old: &'a InternedPolicy,
    new: &'a InternedPolicy,
    bank: &'a B,
    common: Common,
    moved: HashMap<u32, Option<u32>>,
    /// The numbers that old and new classes have in the tables.
    old_ids: HashMap<u32, u32>,
    new_ids: HashMap<u32, u32>,
    /// Where new lists are in the pages.
    placed: HashMap<u32, List>,
    arena: Arena,
    next_class: u32,
    delta: Delta,
}

impl<B: Bank> Planner<'_, B> {
    /// Plans the rows that are new or change.
    fn rows(&mut self) -> Result<(), B::Error> {
        for any in [ANY_V4, ANY_V6] {
            let [was, is] = [self.old, self.new].map(|policy| policy.any()[index(any)]);
            if was != is {
                self.row(any, Some(any), was, is)?;
            }
        }
        let mut rows: Vec<u32> = self.moved.keys().copied().collect();
        if !rows.is_empty() {
            // Also those whose parent moves.
            let all = (0..).zip(&self.common.is_new).skip(2).filter(|(_, is_new)| **is_new);
            let parent = |class: u32| self.interner.class(class).parent;
            rows.extend(all.map(|(class, _)| class).filter(|class| {
                !self.moved.contains_key(class) && self.moved.contains_key(&parent(*class))
            }));
        }
        rows.sort_unstable();
        for number in rows {
            let before = self.moved.get(&number).copied().unwrap_or(Some(number));
            let was = before.map_or([0, 0], |before| self.interner.class(before).lists);
            self.row(number, before, was, self.interner.class(number).lists)?;
        }
        Ok(())
    }

    /// Plans the row of a class, which was that of `before`, with `old_lists`.
    fn row(
        &mut self,
        number: u32,
        before: Option<u32>,
        old_lists: [u32; 2],
        lists: [u32; 2],
    ) -> Result<(), B::Error> {
        let id = self.new_id(number)?;
        let was = match before {
            Some(_) => self.bank.row(id)?,
            None => Class::EMPTY,
        };
        let mut row = was;
        let parent = self.interner.class(number).parent;
        row.parent = if parent == NO_CLASS { NO_CLASS } else { self.new_id(parent)? };
        for (direction, list) in lists.into_iter().enumerate() {
            if old_lists[direction] != list {
                row.lists[direction] = self.place(list);
            }
        }
        self.delta.before.rows.push((id, halves(self.bank.half(), was, row)));
        self.delta.after.rows.push((id, [row; 2]));
        Ok(())
    }

    fn place(&mut self, list: u32) -> List {
        let (arena, interner) = (&mut self.arena, self.interner);
        *self.placed.entry(list).or_insert_with(|| arena.place(interner.list(list)))
    }

    /// Plans what changes in a trie: before the swap, and after it. `any` is the class of addresses
    /// that no prefix covers.
    fn prefixes<const N: usize>(
        &mut self,
        [old, new]: [&Prefixes<N>; 2],
        any: u32,
        mut changed: Vec<Changed<N>>,
    ) -> Result<(PrefixWrites<N>, PrefixWrites<N>), B::Error> {
        if self.moved.keys().any(|class| self.common.unchanged[index(*class)] > 0) {
            let moved = new.iter().filter(|(_, class)| self.moved.contains_key(class));
            let moved = moved.filter(|(prefix, class)| find(old, *prefix) == Some(*class));
            changed.extend(moved.map(|(prefix, class)| (*prefix, [Some(*class); 2])));
        }
        let (mut before, mut after) = (PrefixWrites::default(), PrefixWrites::default());
        for (prefix, classes) in changed {
            // Where there is no such prefix, its addresses have the class of the enclosing one.
            let was = classes[0].unwrap_or_else(|| enclosing(old, prefix).unwrap_or(any));
            let is = classes[1].unwrap_or_else(|| enclosing(new, prefix).unwrap_or(any));
            let (was, is) = (self.old_id(was)?, self.new_id(is)?);
            if was == is && classes[0].is_some() && classes[1].is_some() {
                // Only its row changes.
                continue;
            }
            before.put.push((prefix, halves(self.bank.half(), was, is)));
            match classes[1] {
                Some(_) => after.put.push((prefix, [is; 2])),
                None => after.removed.push(prefix),
            }
        }
        Ok((before, after))
    }

    /// The number of an old class in the tables.
    fn old_id(&mut self, class: u32) -> Result<u32, B::Error> {
        if class <= ANY_V6 {
            return Ok(class);
        }
        if let Some(id) = self.old_ids.get(&class) {
            return Ok(*id);
        }
        let at = index(self.common.samples[index(class)]);
        let (v4, v6) = (&self.old.v4.prefixes, &self.old.v6.prefixes);
        let in_v6 = at.checked_sub(v4.len()).and_then(|at| v6.get(at));
        let id = match (v4.get(at), in_v6) {
            (Some((prefix, _)), _) => self.bank.class_v4(prefix)?,
            (None, Some((prefix, _))) => self.bank.class_v6(prefix)?,
            // Every class but the two "any" classes has a prefix.
            (None, None) => NO_CLASS,
        };
        self.old_ids.insert(class, id);
        Ok(id)
    }

    /// The number that a new class gets in the tables.
    fn new_id(&mut self, class: u32) -> Result<u32, B::Error> {
        match self.moved.get(&class).copied() {
            None => self.old_id(class),
            Some(Some(before)) => self.old_id(before),
            Some(None) => {
                let next = &mut self.next_class;
                Ok(*self.new_ids.entry(class).or_insert_with(|| {
                    *next += 1;
                    *next - 1
                }))
            }
        }
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
