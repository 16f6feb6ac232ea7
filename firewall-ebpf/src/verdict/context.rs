//! The packet that a decision is about.

use crate::abi::interface::Direction;
use crate::abi::policy::Active;
use crate::wire::headers::PacketHeaders;
use crate::wire::tcp::SegmentType;

/// A packet, and what the decision about it needs besides its headers.
pub(super) struct PacketContext<'a, A> {
    /// The word with which the packet was looked up in the filter: the policy is evaluated with the same,
    /// so that no packet meets the filter of one and the rules of another.
    pub(super) active: Active,
    pub(super) direction: Direction,
    pub(super) headers: &'a PacketHeaders<A>,
    /// `None` unless TCP.
    pub(super) segment: Option<SegmentType>,
    /// The window scale of a SYN or SYN-ACK where windows are tracked, else
    /// [`NO_SCALE`](crate::abi::flow::NO_SCALE).
    pub(super) scale: u8,
    /// What the flow keeps of the lookup in the filter: its generation, or 0
    /// ([`filter::check`](super::filter::check)).
    pub(super) filter: u32,
    pub(super) bytes: u32,
    pub(super) now: u64,
}
