//! Counters and where they are in their maps.

use super::interface::Direction;
use super::reason::REASON_SPACE;

/// Packets and bytes (of whole frames, as the hook saw them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Index of a counter by interface, direction and the reason's number.
#[must_use]
#[inline(always)]
pub const fn counter_index(slot: u16, direction: Direction, reason: u32) -> u32 {
    ((slot as u32) << 1 | direction as u32) * REASON_SPACE + reason
}

/// What userspace counts, by interface; the kernel program does not use these counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UserCounter {
    /// Flows that userspace removed from the new tier.
    Removed = 0,
    /// The highest number of evictions reported so far: a later estimate may be lower.
    Evicted = 1,
}

impl UserCounter {
    /// Every counter, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Removed, Self::Evicted];

    /// Index of an interface's counter.
    #[must_use]
    pub const fn index(self, slot: u16) -> u32 {
        slot as u32 * Self::ALL.len() as u32 + self as u32
    }
}
