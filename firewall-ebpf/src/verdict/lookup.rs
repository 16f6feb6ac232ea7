//! Lookup of the rule that allows a packet, in the tables of a compiled policy.

use super::tables::{Policy, Prefixes, TableSet};
use crate::abi::interface::Direction;
use crate::abi::policy::{Active, LEAF, List, NO_CLASS, PAGE, Page, TIMED, rule_number};
use crate::wire::address::Address;

/// The rule that allows `traffic` from or to `outside`, as [`Range::rule`](crate::abi::policy::Range::rule).
/// One that has ended allows nothing: then so has every other rule of its class for the same traffic,
/// because the class names that which ends last, and the parent decides.
#[inline(always)]
pub fn lookup_rule<A: Address, T: Prefixes<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    outside: A,
    traffic: u32,
) -> Option<u32> {
    let set = TableSet::policy(active);
    let mut class = A::ANY;
    if active.has_prefixes(A::IS_V4)
        && let Some(longest) = tables.longest_prefix(set, outside)
    {
        class = longest;
    }
    for _ in 0..A::MAX_DEPTH {
        if class == A::ANY && !active.has_anywhere(A::IS_V4, direction) {
            return None;
        }
        match lookup_class(tables, set, direction, class, traffic) {
            (Some(rule), _) if !has_ended(tables, rule) => return Some(rule),
            (_, NO_CLASS) => return None,
            (_, parent) => class = parent,
        }
    }
    None
}

/// Whether a rule is timed and has ended.
#[inline(always)]
fn has_ended<T: Policy>(tables: &T, rule: u32) -> bool {
    rule & TIMED != 0 && tables.has_rule_ended(rule_number(rule))
}

/// The [`Range::rule`](crate::abi::policy::Range::rule) of one class for `traffic`, whether or not it has
/// ended, and the class's parent.
#[inline(always)]
pub fn lookup_class<T: Policy>(
    tables: &T,
    set: TableSet,
    direction: Direction,
    class: u32,
    traffic: u32,
) -> (Option<u32>, u32) {
    let Some((list, parent)) = tables.class(set, class, direction) else {
        return (None, NO_CLASS);
    };
    let List { len, at, high, rule } = list;
    let rule = match len {
        0 => None,
        1 => (at <= traffic && traffic <= high).then_some(rule),
        _ => tables.search(set, at, len, traffic),
    };
    (rule, parent)
}

/// The rule of the range that contains `limit - 1`, in a list of several ranges; `page` returns the
/// pages.
///
/// Arguments are 64 bits wide so that the compiler does not know that they are small: it would replace
/// the arithmetic in `rank` by branches.
#[inline(always)]
pub fn search<'a>(
    at: u64,
    len: u64,
    limit: u64,
    page: impl Fn(u32) -> Option<&'a Page>,
) -> Option<u32> {
    const PAGES: u64 = PAGE as u64;
    const LEAVES: u64 = LEAF as u64;
    let (mut at, mut len) = (at, len);
    if len > LEAVES {
        let index = page((at / PAGES) as u32)?;
        let leaves = len.div_ceil(LEAVES);
        let leaf = rank(index, at + 1, leaves, limit);
        at = (u64::from(word(index, at)) + leaf) * PAGES;
        len = if leaf + 1 == leaves { len - leaf * LEAVES } else { LEAVES };
    }
    let ranges = page((at / PAGES) as u32)?;
    let found = at + rank(ranges, at, len, limit);
    let low = u64::from(word(ranges, found));
    let high = u64::from(word(ranges, found + len));
    if low < limit && limit <= high + 1 { Some(word(ranges, found + 2 * len)) } else { None }
}

/// The word of a page at an index modulo the page's size.
#[inline(always)]
fn word(page: &Page, at: u64) -> u32 {
    page[(at & (PAGE as u64 - 1)) as usize]
}

/// The number of the `len` ascending words from `at` on that are below `limit`, without the first.
///
/// A binary search whose steps do not branch on the words: a processor mispredicts half of such
/// branches, and the verifier would follow both paths of each.
#[inline(always)]
fn rank(page: &Page, at: u64, len: u64, limit: u64) -> u64 {
    let mut rank = 0;
    macro_rules! steps {
        ($($by:literal)*) => {$(
            let candidate: u64 = rank + $by;
            // The sign bits of two differences: the word exists, and it is below the limit.
            let exists = candidate.wrapping_sub(len);
            let below = u64::from(word(page, at.wrapping_add(candidate))).wrapping_sub(limit);
            rank += ((exists & below) >> 63) * $by;
        )*};
    }
    if len > 64 {
        steps!(512 256 128 64);
    }
    if len > 8 {
        steps!(32 16 8);
    }
    steps!(4 2 1);
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_is_the_index_of_the_last_word_below_the_limit() {
        let mut page: Page = [u32::MAX; PAGE as usize];
        for len in [1, 2, 3, 7, 8, 9, 10, 63, 64, 65, 66, 340, 341, 511, 512, 1000, 1023] {
            let words: Vec<u32> = (0..len).map(|n| 10 + 3 * n).collect();
            page[1..=words.len()].copy_from_slice(&words);
            for limit in 0..u64::from(words[words.len() - 1]) + 5 {
                let below = words.iter().filter(|word| u64::from(**word) < limit).count();
                let expected = u64::try_from(below.saturating_sub(1)).unwrap();
                assert_eq!(rank(&page, 1, u64::from(len), limit), expected, "{len} {limit}");
            }
        }
    }
}
