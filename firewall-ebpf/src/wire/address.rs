//! What differs between the address families.

use super::headers::PacketHeaders;
use super::packet::{Packet, Wire};
use super::{common, embedded};
use crate::abi::address::{V4, V6};
use crate::abi::bloom::{self, Bit};
use crate::abi::flow::{FlowKey4, FlowKey6};
use crate::abi::policy::{ANY_V4, ANY_V6};
use crate::abi::port::PortSecurity;

/// An address family.
pub trait Address: Copy + PartialEq {
    /// The flow key of the family.
    type Key: Copy;

    /// Whether this is IPv4.
    const IS_V4: bool;
    /// The class of an address that no prefix covers.
    const ANY: u32;
    /// The longest chain of nested prefixes: one of each length, and "any".
    const MAX_DEPTH: u32;

    /// Parses the packet embedded in an ICMP error; returns `false` if it is not a valid packet of
    /// this family that the receiver of the error sent, or ends before the eighth byte of its transport
    /// header.
    fn parse_embedded<P: Packet>(
        packet: &P,
        error: &PacketHeaders<Self>,
        embedded: &mut PacketHeaders<Self>,
    ) -> bool;

    /// Builds a key. `tail` is the last eight bytes, ports first, as one word.
    fn key(inside: Self, outside: Self, tail: u64) -> Self::Key;

    /// The key's outside address.
    fn outside(key: &Self::Key) -> Self;

    /// The key's bit in the Bloom filter of flows.
    fn bit(key: &Self::Key) -> Bit;

    /// The words of the key in one of half their size. Keys that differ may have the same.
    fn fold(key: &Self::Key) -> u32;

    /// Source or destination address of a frame whose IP header follows an Ethernet header, in the linear
    /// head; `None` of a frame of another kind.
    fn of_frame<P: Packet>(packet: &P, is_source: bool) -> Option<Self>;

    /// The address as words; that of IPv4 in the first.
    fn words(self) -> V6;

    /// Whether it is a multicast address, or IPv4's limited broadcast address.
    fn is_group(self) -> bool;

    /// Whether one of the networks that a guest may use contains it.
    fn is_own(self, port: &PortSecurity) -> bool;

    /// Whom the key's outside address stands for when its flows are counted: the address of IPv4, and the
    /// /64 of IPv6, of which one host has every address. IPv4 has a prefix that is multicast in IPv6.
    fn source(key: &Self::Key) -> u64;
}

// A key is built from whole words, because the hash and the comparison of a lookup read words: a load
// cannot be forwarded from several narrower stores, and the stall takes longer than the hash. The
// layout of the words is that of a little-endian machine.
const _: () = assert!(cfg!(target_endian = "little"));

/// The two halves of a word in one.
#[inline(always)]
const fn fold(word: u64) -> u32 {
    (word ^ word >> 32) as u32
}

impl Address for V4 {
    type Key = FlowKey4;
    const IS_V4: bool = true;
    const ANY: u32 = ANY_V4;
    const MAX_DEPTH: u32 = 33;

    #[inline(always)]
    fn parse_embedded<P: Packet>(
        packet: &P,
        error: &PacketHeaders<Self>,
        embedded: &mut PacketHeaders<Self>,
    ) -> bool {
        embedded::parse_v4(packet, error, embedded)
    }

    #[inline(always)]
    fn key(inside: Self, outside: Self, tail: u64) -> FlowKey4 {
        let words = [(outside as u64) << 32 | inside as u64, tail];
        // SAFETY: same size and alignment, integers without padding on both sides.
        unsafe { core::mem::transmute::<[u64; 2], FlowKey4>(words) }
    }

    #[inline(always)]
    fn outside(key: &FlowKey4) -> Self {
        key.outside
    }

    #[inline(always)]
    fn bit(key: &FlowKey4) -> Bit {
        // SAFETY: as above.
        bloom::bit(unsafe { core::mem::transmute::<FlowKey4, [u64; 2]>(*key) })
    }

    #[inline(always)]
    fn fold(key: &FlowKey4) -> u32 {
        // SAFETY: as above.
        let [ends, tail] = unsafe { core::mem::transmute::<FlowKey4, [u64; 2]>(*key) };
        fold(ends ^ tail)
    }

    #[inline(always)]
    fn of_frame<P: Packet>(packet: &P, is_source: bool) -> Option<Self> {
        common::address_v4(packet, is_source)
    }

    #[inline(always)]
    fn words(self) -> V6 {
        [self as u64, 0]
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self & 0xf0 == 0xe0 || self == u32::MAX
    }

    #[inline(always)]
    fn is_own(self, port: &PortSecurity) -> bool {
        port.v4.iter().any(|own| self & own.mask == own.address)
    }

    #[inline(always)]
    fn source(key: &FlowKey4) -> u64 {
        (key.outside as u64) << 32 | u32::MAX as u64
    }
}

impl Address for V6 {
    type Key = FlowKey6;
    const IS_V4: bool = false;
    const ANY: u32 = ANY_V6;
    const MAX_DEPTH: u32 = 129;

    #[inline(always)]
    fn parse_embedded<P: Packet>(
        packet: &P,
        error: &PacketHeaders<Self>,
        embedded: &mut PacketHeaders<Self>,
    ) -> bool {
        embedded::parse_v6(packet, error, embedded)
    }

    #[inline(always)]
    fn key(inside: Self, outside: Self, tail: u64) -> FlowKey6 {
        let words = [inside[0], inside[1], outside[0], outside[1], tail];
        // SAFETY: as above.
        unsafe { core::mem::transmute::<[u64; 5], FlowKey6>(words) }
    }

    #[inline(always)]
    fn outside(key: &FlowKey6) -> Self {
        key.outside
    }

    #[inline(always)]
    fn bit(key: &FlowKey6) -> Bit {
        // SAFETY: as above.
        bloom::bit(unsafe { core::mem::transmute::<FlowKey6, [u64; 5]>(*key) })
    }

    #[inline(always)]
    fn fold(key: &FlowKey6) -> u32 {
        // SAFETY: as above.
        let words = unsafe { core::mem::transmute::<FlowKey6, [u64; 5]>(*key) };
        fold(words[0] ^ words[1] ^ words[2] ^ words[3] ^ words[4])
    }

    #[inline(always)]
    fn of_frame<P: Packet>(packet: &P, is_source: bool) -> Option<Self> {
        common::address_v6(packet, is_source)
    }

    #[inline(always)]
    fn words(self) -> V6 {
        self
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self[0] & 0xff == 0xff
    }

    #[inline(always)]
    fn is_own(self, port: &PortSecurity) -> bool {
        port.v6.iter().any(|own| {
            self[0] & own.mask[0] == own.address[0] && self[1] & own.mask[1] == own.address[1]
        })
    }

    #[inline(always)]
    fn source(key: &FlowKey6) -> u64 {
        key.outside[0]
    }
}

// SAFETY: integers only, naturally aligned, without padding: `abi::flow` asserts the sizes.
unsafe impl Wire for FlowKey4 {}
// SAFETY: as above.
unsafe impl Wire for FlowKey6 {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of different bits.
    fn distinct(keys: impl IntoIterator<Item = Bit>) -> usize {
        let mut bits: Vec<_> = keys.into_iter().collect();
        bits.sort_unstable();
        bits.dedup();
        bits.len()
    }

    #[test]
    fn similar_keys_have_different_bits() {
        // 65,536 keys with random bits would occupy 63,500 of them.
        const ENOUGH: usize = 60_000;
        let all = || 0..=u16::MAX;
        let v4 = FlowKey4 { inside: 0x0100_000a, protocol: 6, slot: 3, ..FlowKey4::default() };
        let v6 = FlowKey6 { inside: [1, 2], protocol: 6, slot: 3, ..FlowKey6::default() };
        let hosts = all().map(|host| {
            let outside = u32::from(host).to_be() | 0x14;
            V4::bit(&FlowKey4 { outside, ..v4 })
        });
        assert!(distinct(hosts) > ENOUGH);
        let ports =
            all().map(|port| V4::bit(&FlowKey4 { outside_port: port.to_be(), outside: 20, ..v4 }));
        assert!(distinct(ports) > ENOUGH);
        let services = all().map(|port| V4::bit(&FlowKey4 { inside_port: port.to_be(), ..v4 }));
        assert!(distinct(services) > ENOUGH);
        let hosts = all().map(|host| {
            V6::bit(&FlowKey6 { outside: [0xb80d_0120, u64::from(host).to_be()], ..v6 })
        });
        assert!(distinct(hosts) > ENOUGH);
        let networks = all().map(|network| {
            V6::bit(&FlowKey6 { outside: [0xb80d_0120 | u64::from(network) << 32, 1], ..v6 })
        });
        assert!(distinct(networks) > ENOUGH);
        let ports = all().map(|port| V6::bit(&FlowKey6 { outside_port: port.to_be(), ..v6 }));
        assert!(distinct(ports) > ENOUGH);
        let slots = (0..256).map(|slot| V4::bit(&FlowKey4 { slot, ..v4 }));
        assert_eq!(distinct(slots), 256);
    }
}
