//! TCP options.

use super::header::TCP;
use super::headers::PacketHeaders;
use super::packet::Packet;
use crate::abi::flow::NO_SCALE;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
/// RFC 7323, section 2.3: a larger shift counts as this one.
const MAX_SCALE: u8 = 14;
/// The header length field leaves room for 40 bytes, each of which may be an option.
const MAX_OPTIONS: u32 = 40;

/// The shift of the window scale option in a SYN or SYN-ACK (RFC 7323), or [`NO_SCALE`].
#[inline(always)]
pub fn window_scale<A, P: Packet>(packet: &P, segment: &PacketHeaders<A>) -> u8 {
    let at = segment.at + TCP;
    packet.window_scale(at, at + segment.options)
}

/// The same, searching the bytes from `at` to `end` of the frame.
#[inline(always)]
pub fn find_window_scale<P: Packet>(packet: &P, mut at: u32, end: u32) -> u8 {
    for _ in 0..MAX_OPTIONS {
        // No frame is longer. Without the mask the verifier would follow each path to an offset
        // separately.
        at &= 0xffff;
        if at + 2 > end {
            return NO_SCALE;
        }
        let Some([kind, length]) = packet.load::<[u8; 2]>(at) else { return NO_SCALE };
        at += match (kind, length) {
            (END, _) => return NO_SCALE,
            (NO_OPERATION, _) => 1,
            (WINDOW_SCALE, 3) => {
                let shift = packet.load::<[u8; 2]>(at + 1).map_or(NO_SCALE, |[_, shift]| shift);
                return if shift > MAX_SCALE { MAX_SCALE } else { shift };
            }
            // A length that excludes its own two bytes is invalid, and so is what follows.
            (_, 0 | 1) => return NO_SCALE,
            (_, length) => u32::from(length),
        };
    }
    NO_SCALE
}
