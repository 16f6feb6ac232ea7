//! The decision about a packet.

use super::fast_path::{FastPath, fast_path};
pub use super::slow_path::Decision;
use super::slow_path::slow_path;
use super::tables::{FastPathTables, PortSecurity, Tables};
use crate::abi::interface::Direction;
use crate::abi::reason::Reason;
use crate::wire::packet::Packet;

/// Decides about a packet. The caller counts the reason.
#[inline(always)]
pub fn decide<P: Packet, T: FastPathTables + Tables + PortSecurity<P>>(
    packet: &P,
    tables: &T,
    direction: Direction,
) -> Decision {
    match fast_path(packet, tables, direction) {
        // The whole packet was in the linear head, and so the whole frame.
        FastPath::Hit => Decision { reason: Reason::Established, bytes: packet.linear_len() },
        FastPath::Undecided => slow_path(packet, tables, direction),
    }
}
