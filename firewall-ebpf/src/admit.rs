//! Admission: does a rule allow a packet that belongs to no flow?

use crate::flow::Address;
use crate::interface::Direction;
use crate::limits::MAX_SEARCH_STEPS;
use crate::policy::{Active, NO_CLASS, Range};
use crate::tables::{Policy, Prefixes};

/// The number of the rule that allows `traffic` to or from `outside`.
#[inline(always)]
pub fn admit<A: Address, T: Prefixes<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    outside: A,
    traffic: u32,
) -> Option<u32> {
    let mut class = A::ANY;
    if tables.has_prefixes(active)
        && let Some(longest) = tables.longest(active, outside)
    {
        class = longest;
    }
    for _ in 0..A::MAX_DEPTH {
        match in_class(tables, active, direction, class, traffic) {
            (Some(rule), _) => return Some(rule),
            (None, NO_CLASS) => return None,
            (None, parent) => class = parent,
        }
    }
    None
}

/// The rule of one class that allows `traffic`, and the class of the enclosing prefix.
#[inline(always)]
pub fn in_class<T: Policy>(
    tables: &T,
    active: Active,
    direction: Direction,
    class: u32,
    traffic: u32,
) -> (Option<u32>, u32) {
    let Some(row) = tables.class(active, class) else { return (None, NO_CLASS) };
    let (start, len) = match direction {
        Direction::Ingress => (row.start[0], row.len[0]),
        Direction::Egress => (row.start[1], row.len[1]),
    };
    let rule = if len == 0 { None } else { tables.search(active, start, len, traffic) };
    (rule, row.parent)
}

/// Binary search in the sorted, disjoint ranges `start..start + len`; `range` reads one of them.
#[inline(always)]
pub fn search(
    start: u32,
    len: u32,
    traffic: u32,
    range: impl Fn(u32) -> Option<Range>,
) -> Option<u32> {
    let (mut low, mut high) = (start, start.wrapping_add(len));
    for _ in 0..MAX_SEARCH_STEPS {
        if low >= high {
            return None;
        }
        let middle = low + ((high - low) >> 1);
        let candidate = range(middle)?;
        if traffic < candidate.low {
            high = middle;
        } else if traffic > candidate.high {
            low = middle + 1;
        } else {
            return Some(candidate.rule);
        }
    }
    None
}
