//! The key of a TCP packet to the protected host, read in wide words at constant offsets.

use firewall_ebpf::abi::flow::{FlowKey4, FlowKey6};

/// EtherTypes in packet order.
pub(crate) const IPV4: u16 = 0x0008;
pub(crate) const IPV6: u16 = 0xdd86;

#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv4 {
    skipped: [u16; 4],
    ttl_protocol: u16,
    checksum: u16,
    src: u32,
    dst: u32,
    src_port: u16,
    dst_port: u16,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv6 {
    skipped: [u16; 3],
    next_hops: u16,
    src: [u32; 4],
    dst: [u32; 4],
    src_port: u16,
    dst_port: u16,
}

#[inline(always)]
const fn words([a, b, c, d]: [u32; 4]) -> [u64; 2] {
    [(b as u64) << 32 | a as u64, (d as u64) << 32 | c as u64]
}

/// The EtherType in packet order.
#[inline(always)]
pub(crate) fn ether_type(data: usize, end: usize) -> Option<u16> {
    if data + 14 > end {
        return None;
    }
    // SAFETY: within the packet, as just checked; BPF has no alignment of its own.
    Some(unsafe { *((data + 12) as *const u16) })
}

/// The key of an IPv4 packet without options.
#[inline(always)]
pub(crate) fn v4(data: usize, end: usize) -> Option<FlowKey4> {
    if data + 14 + size_of::<Ipv4>() > end {
        return None;
    }
    // SAFETY: as above.
    let header = unsafe { ((data + 14) as *const Ipv4).read() };
    Some(FlowKey4 {
        inside: header.dst,
        outside: header.src,
        inside_port: header.dst_port,
        outside_port: header.src_port,
        slot: 0,
        protocol: (header.ttl_protocol >> 8) as u8,
        query: 0,
    })
}

/// The key of an IPv6 packet without extension headers.
#[inline(always)]
pub(crate) fn v6(data: usize, end: usize) -> Option<FlowKey6> {
    if data + 14 + size_of::<Ipv6>() > end {
        return None;
    }
    // SAFETY: as above.
    let header = unsafe { ((data + 14) as *const Ipv6).read() };
    Some(FlowKey6 {
        inside: words(header.dst),
        outside: words(header.src),
        inside_port: header.dst_port,
        outside_port: header.src_port,
        slot: 0,
        protocol: (header.next_hops & 0xff) as u8,
        query: 0,
    })
}
