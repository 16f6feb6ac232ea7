//! Fragments: later fragments get the verdict of the first one, which alone has the ports.

use super::flow::is_expired;
use super::tables::{Family, Fragments, Tables};
use crate::abi::event::Event;
use crate::abi::fragment::FirstFragment;
use crate::abi::interface::Direction;
use crate::abi::reason::Reason;
use crate::wire::address::Address;
use crate::wire::headers::PacketHeaders;

/// The key under which a first fragment is stored: source, destination and identification (RFC 791,
/// RFC 8200), in the form of a flow key.
#[inline(always)]
pub fn fragment_key<A: Address>(
    headers: &PacketHeaders<A>,
    direction: Direction,
    slot: u16,
) -> A::Key {
    // IPv6 identifies a packet without its protocol, which later fragments need not repeat.
    let protocol = if A::IS_V4 { headers.protocol } else { 0 };
    let tail = headers.fragment.id as u64
        | (slot as u64) << 32
        | (protocol as u64) << 48
        | (direction as u64) << 56;
    A::key(headers.src, headers.dst, tail)
}

/// Keeps what [`store_first`] stores if the fragment passes: the decision in between needs the room.
#[inline(always)]
pub fn keep_first<A: Address, T: Tables + Family<A>>(
    tables: &T,
    direction: Direction,
    headers: &PacketHeaders<A>,
) {
    let first = FirstFragment { seen: tables.now(), end: headers.fragment.length, reserved: 0 };
    let key = fragment_key(headers, direction, tables.slot());
    Fragments::<A>::keep_fragment(tables, &key, &first);
}

/// Stores the kept first fragment, which passes.
#[inline(always)]
pub fn store_first<A: Address, T: Tables + Family<A>>(tables: &T) {
    Fragments::<A>::insert_fragment(tables);
    tables.count_event(Event::Fragmented);
}

/// Decides about a fragment other than the first.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn decide_later<A: Address, T: Tables + Family<A>>(
    tables: &T,
    direction: Direction,
    headers: &PacketHeaders<A>,
) -> Result<Reason, Reason> {
    let key = fragment_key(headers, direction, tables.slot());
    let first = Fragments::<A>::lookup_fragment(tables, &key).ok_or(Reason::Fragment)?;
    if is_expired(first.seen, tables.now(), tables.fragment_timeout()) {
        return Err(Reason::Fragment);
    }
    if headers.fragment.offset < first.end {
        return Err(Reason::FragmentOverlap);
    }
    Ok(Reason::LaterFragment)
}
