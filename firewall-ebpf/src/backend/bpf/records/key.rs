//! What packets that are counted together have in common: a key, whose hash tells the cell.

use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::interface::{Call, Direction};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::record::{AUDIT, CELLS, EGRESS, FRAGMENT, HASH_WORDS, Note};
use firewall_ebpf::wire::headers::{Kind, PacketHeaders};
use firewall_ebpf::wire::packet::Packet;
use firewall_ebpf::wire::{Frame, HeadersByFamily, Tuple, parse, tuple_v4, tuple_v6};

use super::super::{globals, maps};

/// A `Key` as words, in which it is compared.
pub(super) type Words = [u64; HASH_WORDS];

/// The words of a key that come from the packet itself, their part of the hash, and what else there is.
struct Contents {
    source: V6,
    destination: V6,
    transport: u64,
    sum: u64,
    flags: u8,
    tcp_flags: u8,
}

impl Contents {
    /// Of a frame that is not IP, or does not parse.
    #[inline(always)]
    const fn other(ether_type: u16) -> Self {
        Self {
            source: [0; 2],
            destination: [0; 2],
            transport: (ether_type as u64) << 32,
            sum: 0,
            flags: 0,
            tcp_flags: 0,
        }
    }

    #[inline(always)]
    fn v4(source: V4, destination: V4, transport: u64, tcp_flags: u8) -> Self {
        let (source, destination) = (u64::from(source), u64::from(destination));
        let sum = keyed(0, source | destination << 32);
        let (source, destination) = ([source, 0], [destination, 0]);
        Self { source, destination, transport, sum, flags: 0, tcp_flags }
    }

    #[inline(always)]
    fn v6(source: V6, destination: V6, transport: u64, tcp_flags: u8) -> Self {
        let sum = keyed(0, source[0])
            .wrapping_add(keyed(1, source[1]))
            .wrapping_add(keyed(2, destination[0]))
            .wrapping_add(keyed(3, destination[1]));
        Self { source, destination, transport, sum, flags: 0, tcp_flags }
    }

    #[inline(always)]
    fn of<P: Packet>(packet: &P, reason: u32) -> Self {
        // Most packets of a flood; reading them again costs less than parsing.
        if packet.has_ethernet() && is_parsed(reason) {
            if let Some(Tuple { src, dst, protocol, ports, tcp_flags }) = tuple_v4(packet) {
                return Self::v4(src, dst, transport(ports, protocol, 4), tcp_flags);
            }
            if let Some(Tuple { src, dst, protocol, ports, tcp_flags }) = tuple_v6(packet) {
                return Self::v6(src, dst, transport(ports, protocol, 6), tcp_flags);
            }
        }
        let mut headers = HeadersByFamily::new();
        match parse(packet, &mut headers) {
            Ok(Frame::V4) => {
                let v4 = &headers.v4;
                let transport = transport(ports(v4), v4.protocol, 4);
                Self { flags: fragment(v4), ..Self::v4(v4.src, v4.dst, transport, v4.tcp_flags) }
            }
            Ok(Frame::V6) => {
                let v6 = &headers.v6;
                let transport = transport(ports(v6), v6.protocol, 6);
                Self { flags: fragment(v6), ..Self::v6(v6.src, v6.dst, transport, v6.tcp_flags) }
            }
            Ok(Frame::NonIp(ether_type)) => Self::other(ether_type),
            Err(_) => Self::other(0),
        }
    }
}

/// What the packet has in common with others, the hash of it, and its TCP flags.
#[inline(always)]
pub(super) fn key<P: Packet>(packet: &P, call: Call, note: Note) -> (Words, u32, u8) {
    let Contents { source, destination, transport, mut sum, mut flags, tcp_flags } =
        Contents::of(packet, call.reason());
    if globals::direction() == Direction::Egress {
        flags |= EGRESS;
    }
    if call.is_audit() {
        flags |= AUDIT;
    }
    let (slot, reason) = (u64::from(call.settings() >> 1), call.reason());
    let place =
        u64::from(call.device()) | slot << 32 | u64::from(reason) << 48 | u64::from(flags) << 56;
    let generation = match note.generation() {
        0 => maps::active(slot as u16).generation(),
        known => known,
    };
    let decided_by = if names_decider(reason) { note.decided_by() } else { 0 };
    let decided = Note::new(generation, decided_by).0;
    // What decided rarely differs where the rest is equal.
    sum = sum.wrapping_add(keyed(4, transport)).wrapping_add(keyed(5, place));
    // Every bit of the sum affects the highest bits of the product (the golden ratio).
    let hash = (sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & (CELLS - 1);
    let [s0, s1] = source;
    let [d0, d1] = destination;
    ([s0, s1, d0, d1, transport, place, decided], hash, tcp_flags)
}

/// Whether every packet with this reason has been parsed without error; of those that are frequent.
#[inline(always)]
const fn is_parsed(reason: u32) -> bool {
    const PARSED: u64 = 1 << Reason::NoRule as u32
        | 1 << Reason::NoPolicy as u32
        | 1 << Reason::UnsolicitedSynAck as u32
        | 1 << Reason::TcpNotOpened as u32
        | 1 << Reason::Acl as u32
        | 1 << Reason::Untracked as u32;
    PARSED >> (reason & 63) & 1 != 0
}

/// Whether the note tells what decided about a packet with this reason.
#[inline(always)]
const fn names_decider(reason: u32) -> bool {
    const DECIDERS: u64 = 1 << Reason::Admitted as u32
        | 1 << Reason::Untracked as u32
        | 1 << Reason::Acl as u32
        | 1 << Reason::Blocked as u32;
    DECIDERS >> (reason & 63) & 1 != 0
}

/// `Key::ports`, `Key::protocol` and `Key::family`.
#[inline(always)]
fn transport(ports: u32, protocol: u8, family: u64) -> u64 {
    u64::from(ports) | u64::from(protocol) << 48 | family << 56
}

#[inline(always)]
fn ports<A>(headers: &PacketHeaders<A>) -> u32 {
    match headers.kind {
        Kind::Tcp | Kind::Udp => headers.ports,
        Kind::Request | Kind::Reply | Kind::Error | Kind::Message => {
            u32::from(headers.rule_port.to_be()) << 16
        }
        Kind::LaterFragment | Kind::Other => 0,
    }
}

#[inline(always)]
fn fragment<A>(headers: &PacketHeaders<A>) -> u8 {
    if headers.kind == Kind::LaterFragment { FRAGMENT } else { 0 }
}

/// A term of NH, the hash of UMAC (RFC 4418, 5.2.2), whose sum tells the cell of a key: without the numbers that were
/// chosen at random when the program was loaded, no sender can choose packets that share a cell.
#[inline(always)]
fn keyed(index: usize, word: u64) -> u64 {
    let [first, second] = globals::hash_keys(index);
    let low = (word as u32).wrapping_add(first);
    let high = ((word >> 32) as u32).wrapping_add(second);
    u64::from(low).wrapping_mul(u64::from(high))
}
