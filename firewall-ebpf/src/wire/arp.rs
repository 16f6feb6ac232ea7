//! ARP (RFC 826).

use super::header::{ETHERNET, ETHERTYPE_OFFSET, RAW_8021AD, RAW_8021Q, RAW_IPV4};
use super::message::Arp;
use super::packet::Packet;
use crate::abi::limits::MAX_VLAN_TAGS;

/// Length of an Ethernet address, then of an IPv4 address: Linux ignores ARP with others.
const LENGTHS: u32 = u32::from_le_bytes([6, 4, 0, 0]);

/// The ARP message in an Ethernet frame; `None` if it is truncated, not about IPv4 and Ethernet
/// addresses, or if its sender's hardware address is not the frame's source.
#[inline(always)]
pub fn read_arp<P: Packet>(packet: &P) -> Option<Arp> {
    let at = start(packet)?;
    // As words of a little-endian machine: the sender's hardware address begins with the third, and its
    // IP address in the middle of the fourth.
    let [types, lengths, third, fourth, fifth, _, target] = packet.load::<[u32; 7]>(at)?;
    // Two octets of the destination, then the source.
    let [source] = packet.head::<[u64; 1]>(4)?;
    let hardware = u64::from(third) | u64::from(fourth & 0xffff) << 32;
    let is_valid = types >> 16 == u32::from(RAW_IPV4)
        && lengths & 0xffff == LENGTHS
        && hardware == source >> 16;
    is_valid.then_some(Arp { sender: fourth >> 16 | fifth << 16, target })
}

/// Offset of what follows the Ethernet header and its VLAN tags, which the parser has counted. Without a
/// loop: the verifier has no bound for one that also counts the tags in the metadata.
#[inline(always)]
fn start<P: Packet>(packet: &P) -> Option<u32> {
    const { assert!(MAX_VLAN_TAGS == 2) };
    let is_tag = |raw_type| raw_type == RAW_8021Q || raw_type == RAW_8021AD;
    if !is_tag(packet.load::<u16>(ETHERTYPE_OFFSET)?) {
        return Some(ETHERNET);
    }
    let is_double = is_tag(packet.load::<u16>(ETHERTYPE_OFFSET + 4)?);
    Some(if is_double { ETHERNET + 8 } else { ETHERNET + 4 })
}
