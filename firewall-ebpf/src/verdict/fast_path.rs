//! The fast path: a packet of an established, proven flow that changes nothing but its times and
//! numbers. Nine packets of ten take it.

use super::filter;
use super::flow::{FlowRef, flow_key, is_expired};
use super::numbers;
use super::port_security::has_own_mac;
use super::tables::{FastPathTables, FlowLookup};
use crate::abi::flow::{NUMBERS_KNOWN, Table, UNCONFIRMED_FIN_EGRESS, UNCONFIRMED_FIN_INGRESS};
use crate::abi::interface::Direction;
use crate::abi::policy::Active;
use crate::abi::state::State;
use crate::wire::address::Address;
use crate::wire::headers::{Kind, PacketHeaders};
use crate::wire::packet::Packet;
use crate::wire::{HeadersByFamily, parse_common_v4, parse_common_v6, tcp, tcp_numbers};

/// The result of [`fast_path`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// The packet belongs to a proven flow and changes nothing about its state: it passes.
    Hit,
    /// The slow path decides.
    Undecided,
}

/// The first half of [`decide`](super::decide::decide), of a packet that has passed the blocks of the host;
/// `active` is the word that these were checked with. Compiled once for each direction, so that
/// nothing in it branches on the direction; the verifier removes the one that a hook never uses.
#[inline(always)]
pub fn fast_path<P: Packet, T: FastPathTables>(
    packet: &P,
    tables: &T,
    direction: Direction,
    active: Active,
) -> FastPath {
    // In a flood the slow path alone is shorter: the Bloom filter recognises packets of unknown flows
    // without the flow tables.
    if !tables.has_fast_path(packet)
        || tables.under_flood()
        || !has_own_mac(packet, direction == Direction::Egress, tables.own_mac())
    {
        FastPath::Undecided
    } else if direction == Direction::Ingress {
        common_frame(packet, tables, Direction::Ingress, active)
    } else {
        common_frame(packet, tables, Direction::Egress, active)
    }
}

/// The common frame of either family, if this is one.
#[inline(always)]
fn common_frame<P: Packet, T: FastPathTables>(
    packet: &P,
    tables: &T,
    direction: Direction,
    active: Active,
) -> FastPath {
    let mut headers = HeadersByFamily::new();
    if parse_common_v4(packet, &mut headers.v4) {
        established(packet, tables, direction, active, &headers.v4)
    } else if parse_common_v6(packet, &mut headers.v6) {
        established(packet, tables, direction, active, &headers.v6)
    } else {
        FastPath::Undecided
    }
}

/// A TCP segment with no judged flag but ACK in an established flow, or UDP in a proven one. The slow
/// path would decide the same ([`Transition::Unchanged`](super::tcp::Transition::Unchanged)); here
/// fewer values are live, which makes the path a third shorter.
#[inline(always)]
fn established<A: Address, P: Packet, T: FastPathTables + FlowLookup<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    active: Active,
    headers: &PacketHeaders<A>,
) -> FastPath {
    match headers.kind {
        Kind::Tcp if headers.tcp_flags == tcp::ACK => {
            refresh(packet, tables, direction, active, headers, (Table::Tcp, State::Established))
        }
        Kind::Udp => {
            refresh(packet, tables, direction, active, headers, (Table::Udp, State::UdpStream))
        }
        _ => FastPath::Undecided,
    }
}

/// Counts a packet in its proven flow and restarts the idle timeout, if the flow is in `state`.
#[inline(always)]
fn refresh<A: Address, P: Packet, T: FastPathTables + FlowLookup<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    active: Active,
    headers: &PacketHeaders<A>,
    (table, state): (Table, State),
) -> FastPath {
    let key = flow_key(headers, direction, tables.slot());
    let Some(flow) = FlowLookup::<A>::lookup(tables, table, &key) else {
        return FastPath::Undecided;
    };
    let now = tables.now();
    // Where the numbers are not known, the slow path learns them; where a FIN is not confirmed, it looks
    // for its acknowledgement.
    let (mask, expected) = if state == State::Established {
        (
            [u8::MAX, NUMBERS_KNOWN, 0, UNCONFIRMED_FIN_INGRESS | UNCONFIRMED_FIN_EGRESS],
            [state as u8, NUMBERS_KNOWN, 0, 0],
        )
    } else {
        ([u8::MAX, 0, 0, 0], [state as u8, 0, 0, 0])
    };
    if flow.status() & u32::from_ne_bytes(mask) != u32::from_ne_bytes(expected)
        || is_expired(flow.last_seen(), now, tables.timeout(state))
    {
        return FastPath::Undecided;
    }
    if tables.revalidates() && flow.epoch() != active.generation() {
        return FastPath::Undecided;
    }
    // The slow path looks the packet up, and counts it at the entry that decides.
    if active.has_filter() && !is_allowed_by_filter::<A, T>(tables, direction, active, &flow, &key)
    {
        return FastPath::Undecided;
    }
    if state == State::Established {
        // Read again: keeping the numbers in registers across the lookup costs more.
        let Some((seq, ack)) = tcp_numbers(packet, headers) else { return FastPath::Undecided };
        // A forged segment, or numbers jumped: the slow path passes it without believing them.
        if !numbers::belong(&flow, seq, ack, direction) {
            return FastPath::Undecided;
        }
        numbers::store(&flow, seq.wrapping_add(headers.payload), ack, direction);
    }
    flow.count(direction, packet.linear_len());
    flow.set_last_seen(now);
    FastPath::Hit
}

/// Whether the present filter has allowed a packet of this flow and direction, and will allow every other.
#[inline(always)]
fn is_allowed_by_filter<A: Address, T: FastPathTables>(
    tables: &T,
    direction: Direction,
    active: Active,
    flow: &FlowRef<'_>,
    key: &A::Key,
) -> bool {
    let filter = tables.filter(active);
    filter.is_present() && flow.filter(direction) == filter::mark::<A>(filter.generation(), key)
}
