//! Headers as they are in a packet, for [`Packet`](super::packet::Packet) to read.

use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use super::packet::Wire;
use crate::abi::address::{V4, V6};

/// IP protocol numbers that the parser distinguishes.
pub mod protocol {
    use super::IpProto;

    /// ICMP for IPv4.
    pub const ICMP: u8 = IpProto::Icmp as u8;
    /// IGMP.
    pub const IGMP: u8 = IpProto::Igmp as u8;
    /// TCP.
    pub const TCP: u8 = IpProto::Tcp as u8;
    /// UDP.
    pub const UDP: u8 = IpProto::Udp as u8;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
    pub(in crate::wire) const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    pub(in crate::wire) const ROUTING: u8 = IpProto::Ipv6Route as u8;
    pub(in crate::wire) const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    pub(in crate::wire) const AUTHENTICATION: u8 = IpProto::Ah as u8;
    pub(in crate::wire) const NO_NEXT: u8 = IpProto::Ipv6NoNxt as u8;
    pub(in crate::wire) const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
    pub(in crate::wire) const SHIM6: u8 = IpProto::Shim6 as u8;
}

pub(super) const ETHERTYPE_OFFSET: u32 = 12;
pub(super) const ETHERNET: u32 = EthHdr::LEN as u32;
pub(super) const IPV4: u32 = Ipv4Hdr::LEN as u32;
pub(super) const IPV6: u32 = Ipv6Hdr::LEN as u32;
pub(super) const TCP: u32 = TcpHdr::LEN as u32;
pub(super) const UDP: u32 = UdpHdr::LEN as u32;
/// Every ICMP and ICMPv6 message has a header of eight bytes (RFC 792, RFC 4443).
pub(super) const ICMP: u32 = 8;
/// EtherTypes in packet order, for comparison with a raw load.
pub(super) const RAW_IPV4: u16 = EtherType::Ipv4 as u16;
pub(super) const RAW_IPV6: u16 = EtherType::Ipv6 as u16;
pub(super) const RAW_8021Q: u16 = EtherType::Ieee8021q as u16;
pub(super) const RAW_8021AD: u16 = EtherType::Ieee8021ad as u16;
/// Below this a type field is the length of an 802.3 frame (IEEE 802.3, clause 3.2.6).
pub(super) const FIRST_ETHERTYPE: u16 = 0x600;

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Ipv4 {
    pub(super) version_ihl: u8,
    pub(super) tos: u8,
    pub(super) total_length: u16,
    pub(super) id: u16,
    pub(super) fragment: u16,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    pub(super) checksum: u16,
    pub(super) src: V4,
    pub(super) dst: V4,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Ipv6 {
    pub(super) version: u8,
    pub(super) class: u8,
    pub(super) flow: u16,
    pub(super) payload_length: u16,
    pub(super) next: u8,
    pub(super) hop_limit: u8,
    pub(super) src: V6,
    pub(super) dst: V6,
}

/// The first eight bytes of every IPv6 extension header.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Extension {
    pub(super) next: u8,
    pub(super) length: u8,
    /// Fragment header: offset and M flag. Routing header: type and segments left.
    pub(super) field: u16,
    pub(super) rest: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Tcp {
    pub(super) ports: u32,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) offset: u8,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) checksum: u16,
    pub(super) urgent: u16,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Udp {
    pub(super) ports: u32,
    pub(super) length: u16,
    pub(super) checksum: u16,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Icmp {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) checksum: u16,
    pub(super) id: u16,
    pub(super) sequence: u16,
}

impl Udp {
    /// A header read as two words.
    #[inline(always)]
    pub(super) const fn from_words([ports, second]: [u32; 2]) -> Self {
        Self { ports, length: (second & 0xffff) as u16, checksum: (second >> 16) as u16 }
    }
}

impl Icmp {
    /// A header read as two words.
    #[inline(always)]
    pub(super) const fn from_words([first, second]: [u32; 2]) -> Self {
        Self {
            kind: (first & 0xff) as u8,
            code: (first >> 8 & 0xff) as u8,
            checksum: (first >> 16) as u16,
            id: (second & 0xffff) as u16,
            sequence: (second >> 16) as u16,
        }
    }
}

// SAFETY: integers only, naturally aligned, sizes asserted below: no padding, no invalid values.
unsafe impl Wire for Ipv4 {}
// SAFETY: as above.
unsafe impl Wire for Ipv6 {}
// SAFETY: as above.
unsafe impl Wire for Extension {}
// SAFETY: as above.
unsafe impl Wire for Tcp {}
// SAFETY: as above.
unsafe impl Wire for Udp {}
// SAFETY: as above.
unsafe impl Wire for Icmp {}

const _: () = assert!(
    size_of::<Ipv4>() as u32 == IPV4
        && size_of::<Ipv6>() as u32 == IPV6
        && size_of::<Extension>() == 8
        && size_of::<Tcp>() as u32 == TCP
        && size_of::<Udp>() as u32 == UDP
        && size_of::<Icmp>() as u32 == ICMP
);
