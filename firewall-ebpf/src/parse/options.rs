//! TCP options.

use super::Segment;
use super::header::TCP;
use crate::flow::NO_SCALE;
use crate::packet::Packet;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
/// RFC 7323, section 2.3: a larger shift is to be taken as this one.
const MAX_SCALE: u8 = 14;
/// The header length field leaves room for 40 bytes, each of which may be an option.
const MAX_OPTIONS: u32 = 40;

/// The shift of the window scale option in a SYN or SYN-ACK (RFC 7323), or [`NO_SCALE`].
#[inline(always)]
pub fn window_scale<A, P: Packet>(packet: &P, segment: &Segment<A>) -> u8 {
    let at = segment.at + TCP;
    packet.window_scale(at, at + segment.options)
}

/// The same, of options that lie from `at` to `end`.
#[inline(always)]
pub fn scale_within<P: Packet>(packet: &P, mut at: u32, end: u32) -> u8 {
    for _ in 0..MAX_OPTIONS {
        // No frame is longer. Without it the verifier would follow every way to reach an offset
        // on its own.
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
            // A length that does not count its own two bytes: what follows means nothing.
            (_, 0 | 1) => return NO_SCALE,
            (_, length) => u32::from(length),
        };
    }
    NO_SCALE
}
