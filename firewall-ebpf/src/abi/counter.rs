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

/// Counters of all stripes together, unless a single stripe has more: 64 MiB.
const RULE_COUNTERS: u32 = 1 << 22;

/// Counters in a stripe of the counters by rule: `rules` and at most three more, so that CPUs never
/// write to one cache line.
#[must_use]
pub const fn rule_stride(rules: u32) -> u32 {
    rules.next_multiple_of(64 / size_of::<Counter>() as u32)
}

/// Stripes of the counters by rule: one for each of the possible CPUs, or fewer, which CPUs then share,
/// where that would be too much memory. CPU `n` counts in stripe `n % rule_stripes`, and a rule with the
/// index `i` at `stripe * rule_stride + i`.
#[must_use]
pub const fn rule_stripes(rules: u32, cpus: u32) -> u32 {
    let most = RULE_COUNTERS / rule_stride(rules);
    let stripes = if cpus < most { cpus } else { most };
    if stripes == 0 { 1 } else { stripes }
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
