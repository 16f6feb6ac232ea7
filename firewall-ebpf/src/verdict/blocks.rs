//! Blocks of the whole host: the first check of every IP packet, by its outside address.
//!
//! The programs of an interface check frames with IP right behind an Ethernet header, and tell the slow path
//! that they have; it checks the others once it has parsed them.
//!
//! A packet reads the word that selects the tables once, and then the tables, which may be exchanged
//! meanwhile: userspace writes values into the half, or the bank, that no packet uses after a grace period.

use super::tables::Blocks;
use crate::abi::address::{V4, V6};
use crate::abi::filter::entry_counter;
use crate::abi::interface::Direction;
use crate::abi::policy::TIMED;
use crate::wire::address::Address;
use crate::wire::is_in_head;
use crate::wire::packet::Packet;

/// What is known of a packet before it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Early {
    /// No block is in force for its outside address.
    Passed,
    /// A block is, which has this counter.
    Blocked(u32),
    /// Nothing: the slow path checks it.
    Unknown,
}

/// The counter of the block in force for an address. The value that the address has is that of the block
/// that ends last, so that no other is to be looked for where it has ended.
#[inline(always)]
pub fn find<A: Address, T: Blocks<A>>(tables: &T, outside: A) -> Option<u32> {
    let blocking = tables.blocking();
    if !blocking.has(A::IS_V4) {
        return None;
    }
    let word = tables.block_of(blocking, outside);
    if word == 0 {
        return None;
    }
    let counter = entry_counter(word);
    let has_ended = word & TIMED != 0 && tables.has_entry_ended(counter);
    (!has_ended).then_some(counter)
}

/// Whether a packet is dropped because its outside address is blocked; then it is counted at the block.
#[inline(always)]
pub fn check<A: Address, T: Blocks<A>>(tables: &T, outside: A, bytes: u32) -> bool {
    let Some(counter) = find(tables, outside) else { return false };
    tables.count_entry(counter, bytes);
    true
}

/// Bytes of a frame that [`early`] has read, without the call that they cost at XDP where the frame may be in
/// several buffers.
#[inline(always)]
pub fn bytes<P: Packet>(packet: &P) -> u32 {
    if is_in_head(packet) { packet.linear_len() } else { packet.length() }
}

/// Checks a frame whose IP header follows an Ethernet header, in the linear head.
#[inline(always)]
pub fn early<P: Packet, T: Blocks<V4> + Blocks<V6>>(
    packet: &P,
    tables: &T,
    direction: Direction,
) -> Early {
    let found = if !packet.has_ethernet() {
        return Early::Unknown;
    } else if let Some(outside) = V4::of_frame(packet, direction == Direction::Ingress) {
        find(tables, outside)
    } else if let Some(outside) = V6::of_frame(packet, direction == Direction::Ingress) {
        find(tables, outside)
    } else {
        return Early::Unknown;
    };
    found.map_or(Early::Passed, Early::Blocked)
}
