//! The filter of an interface: its own blocks and its network ACL. Stateless, so every packet of both
//! directions is looked up in it, before flows and rules; the fast path compares one word instead, which a
//! flow keeps of the last lookup ([`mark`]).
//!
//! The tables of a filter do not change while packets can read them: userspace writes them under a number
//! that no active word has, and gives a number to other tables only after a grace period without it.

use super::lookup::lookup_class;
use super::tables::{Entries, Prefixes, TableSet};
use crate::abi::filter::{BLOCK, DENY, Filter, entry_counter};
use crate::abi::interface::Direction;
use crate::abi::limits::MAX_ENDS;
use crate::abi::policy::{Active, TIMED};
use crate::abi::reason::Reason;
use crate::wire::address::Address;

/// The entry that decides about `traffic` from or to `outside`, as a word of the filter; `None` where the
/// filter says nothing, which a complete one never does.
#[inline(always)]
pub fn lookup_entry<A: Address, T: Entries + Prefixes<A>>(
    tables: &T,
    filter: Filter,
    active: Active,
    direction: Direction,
    outside: A,
    traffic: u32,
) -> Option<u32> {
    if !filter.is_present() {
        return None;
    }
    let set = TableSet::filter(active);
    let mut class = A::ANY;
    if filter.has_prefixes(A::IS_V4)
        && let Some(longest) = tables.longest_prefix(set, outside)
    {
        class = longest;
    }
    for _ in 0..=MAX_ENDS {
        let (word, parent) = lookup_class(tables, set, direction, class, traffic);
        let word = word?;
        if word & TIMED == 0 || !tables.has_entry_ended(entry_counter(word)) {
            return Some(word);
        }
        // Without the entries that have ended; `NO_CLASS` has no row.
        class = parent;
    }
    None
}

/// Looks a packet up in the filter and counts it at the entry that decides. Returns what the flow keeps of
/// this: the filter's generation, or 0 where the same packet may be denied later, because the entry ends.
///
/// A permanent entry stays the first that matches: those before it do not match, and may only end.
///
/// # Errors
/// The reason for which the packet is dropped; without a word about it, [`Reason::Acl`].
#[inline(always)]
pub fn check<A: Address, T: Entries + Prefixes<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    outside: A,
    traffic: u32,
    bytes: u32,
) -> Result<u32, Reason> {
    let filter = tables.filter(active);
    let word = lookup_entry(tables, filter, active, direction, outside, traffic);
    let word = word.ok_or(Reason::Acl)?;
    tables.count_entry(entry_counter(word), bytes);
    if word & DENY != 0 {
        return Err(if word & BLOCK != 0 { Reason::Blocked } else { Reason::Acl });
    }
    Ok(if word & TIMED != 0 { 0 } else { filter.generation() })
}

/// The result of [`check`] in one word: the number of the reason, or 0, and in the upper half what the flow
/// keeps.
#[inline(always)]
pub const fn pack(result: Result<u32, Reason>) -> u64 {
    match result {
        Ok(generation) => (generation as u64) << 32,
        Err(reason) => reason as u64,
    }
}

/// The result of [`pack`].
///
/// # Errors
/// The reason for which the packet is dropped.
#[inline(always)]
pub const fn unpack(word: u64) -> Result<u32, Reason> {
    match word & 0xffff_ffff {
        0 => Ok((word >> 32) as u32),
        reason if reason == Reason::Blocked as u64 => Err(Reason::Blocked),
        _ => Err(Reason::Acl),
    }
}

/// What a flow of this key has in [`Flow::filter`](crate::abi::flow::Flow::filter) for a direction that the
/// filter of this generation allows; never 0, because a generation is odd.
///
/// Made of the key too: a packet that holds the record while it is reused for another flow writes a
/// word there that means nothing for that flow, whose next packet is then looked up.
#[must_use]
#[inline(always)]
pub fn mark<A: Address>(generation: u32, key: &A::Key) -> u32 {
    generation ^ A::fold(key) & !1
}
