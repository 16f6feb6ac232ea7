//! The decision about a packet.

use super::blocks::{self, Early};
use super::fast_path::{FastPath, fast_path};
pub use super::slow_path::Decision;
use super::slow_path::slow_path;
use super::tables::{Blocks, FastPathTables, HandOver, PortSecurity, Tables};
use crate::abi::address::{V4, V6};
use crate::abi::interface::Direction;
use crate::abi::reason::Reason;
use crate::wire::packet::Packet;

/// Decides about a packet. The caller counts the reason.
#[inline(always)]
pub fn decide<
    P: Packet,
    T: FastPathTables + HandOver + Tables + PortSecurity<P> + Blocks<V4> + Blocks<V6>,
>(
    packet: &P,
    tables: &T,
    direction: Direction,
) -> Decision {
    let active = tables.active();
    // Without blocks nothing is known either: the slow path reads the word again.
    let early =
        if active.has_blocks() { blocks::early(packet, tables, direction) } else { Early::Unknown };
    if let Early::Blocked(counter) = early {
        let bytes = blocks::bytes(packet);
        tables.count_entry(counter, bytes);
        return Decision { reason: Reason::Blocked, bytes };
    }
    match fast_path(packet, tables, direction, active) {
        // The whole packet was in the linear head, and so the whole frame.
        FastPath::Hit => Decision { reason: Reason::Established, bytes: packet.linear_len() },
        FastPath::Undecided => {
            tables.hand_over(early == Early::Passed);
            slow_path(packet, tables, direction)
        }
    }
}
