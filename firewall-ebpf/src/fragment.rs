//! Fragments: the later ones of a packet get the verdict of its first, which alone has the ports.

use crate::event::Event;
use crate::flow::{Address, has_passed};
use crate::interface::Direction;
use crate::parse::Segment;
use crate::reason::Reason;
use crate::tables::{Family, Fragments, Tables};

/// What is kept of a first fragment that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FirstFragment {
    /// When it passed, in jiffies.
    pub seen: u64,
    /// Bytes of the packet that it holds: later fragments begin behind them.
    pub end: u32,
    /// Zero.
    pub reserved: u32,
}

/// The key under which the verdict on a first fragment is kept for the later ones: source,
/// destination and identification (RFC 791, RFC 8200), in the form of a flow key.
#[inline(always)]
pub fn key<A: Address>(segment: &Segment<A>, direction: Direction, slot: u16) -> A::Key {
    // IPv6 identifies a packet without its protocol, which later fragments need not repeat.
    let protocol = if A::IS_V4 { segment.protocol } else { 0 };
    let tail = segment.fragment.id as u64
        | (slot as u64) << 32
        | (protocol as u64) << 48
        | (direction as u64) << 56;
    A::key(segment.src, segment.dst, tail)
}

/// Remembers that a first fragment passed.
#[inline(always)]
pub fn keep<A: Address, T: Tables + Family<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
) {
    let first = FirstFragment { seen: tables.now(), end: segment.fragment.length, reserved: 0 };
    let key = key(segment, direction, tables.slot());
    Fragments::<A>::keep_fragment(tables, &key, &first);
    tables.count_event(Event::Fragmented);
}

/// The verdict on a fragment other than the first.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn follow<A: Address, T: Tables + Family<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
) -> Result<Reason, Reason> {
    let key = key(segment, direction, tables.slot());
    let first = Fragments::<A>::first_fragment(tables, &key).ok_or(Reason::Fragment)?;
    if has_passed(first.seen, tables.now(), tables.fragment_timeout()) {
        return Err(Reason::Fragment);
    }
    if segment.fragment.offset < first.end {
        return Err(Reason::FragmentOverlap);
    }
    Ok(Reason::LaterFragment)
}
