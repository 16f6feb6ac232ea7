//! The tables of cases, by topic.

pub mod acl;
pub mod blocks;
pub mod connectionless;
pub mod conntrack;
pub mod dhcp;
pub mod discovery;
pub mod exempt;
pub mod forged;
pub mod fragments;
pub mod headers;
pub mod icmp_errors;
pub mod ipv6;
pub mod multicast;
pub mod port_security;
pub mod restart;
pub mod revalidate;
pub mod rules;

pub mod tcp;
pub mod tcp_close;
pub mod untracked;
pub mod windows;

use crate::decision::case::{Case, Step, send};
use crate::decision::kernel::Setup;
use crate::decision::packet::Packet;
use crate::decision::packet::flags::{ACK, FIN, PSH, RST, SYN};
use crate::decision::scenario::Role::{self, Client, Server};
use firewall_ebpf::abi::reason::Reason;

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    by_topic().into_iter().flatten().collect()
}

/// Every case, by its topic.
#[must_use]
pub fn by_topic() -> Vec<Vec<Case>> {
    vec![
        tcp::cases(),
        tcp_close::cases(),
        connectionless::cases(),
        headers::cases(),
        ipv6::cases(),
        fragments::cases(),
        rules::cases(),
        exempt::cases(),
        discovery::cases(),
        multicast::cases(),
        dhcp::cases(),
        port_security::cases(),
        icmp_errors::cases(),
        windows::cases(),
        forged::cases(),
        restart::cases(),
        untracked::cases(),
        conntrack::cases(),
        revalidate::cases(),
        acl::cases(),
        blocks::cases(),
    ]
}

/// The cases that apply to an interface of this setup.
#[must_use]
pub fn of(setup: &Setup) -> Vec<Case> {
    all().into_iter().filter(|case| case.is_for(setup)).collect()
}

/// The cases of this setup without port security that have the same results with the inside's own
/// addresses declared.
#[must_use]
pub fn of_own_addresses(setup: &Setup) -> Vec<Case> {
    let all = of(setup).into_iter();
    all.filter(Case::uses_own_addresses).collect()
}

/// The client's initial sequence number, just below the wraparound: numbers are compared modulo
/// 2^32.
pub const C: u32 = 0xffff_fff0;
/// The server's.
pub const S: u32 = 5000;

/// The sequence number `by` after `number`.
#[must_use]
pub const fn after(number: u32, by: u32) -> u32 {
    number.wrapping_add(by)
}

/// The client's SYN.
#[must_use]
pub fn syn() -> Packet {
    Packet::tcp(Client, SYN, C, 0).tcp_options(5)
}

/// The server's reply to [`syn`].
#[must_use]
pub fn syn_ack() -> Packet {
    Packet::tcp(Server, SYN | ACK, S, after(C, 1)).tcp_options(5)
}

/// The client's ACK of [`syn_ack`].
#[must_use]
pub fn handshake_ack() -> Packet {
    Packet::tcp(Client, ACK, after(C, 1), after(S, 1))
}

/// A segment with data, after the handshake.
#[must_use]
pub fn data(from: Role) -> Packet {
    established(from, PSH | ACK).data(100)
}

/// A pure acknowledgement, after the handshake.
#[must_use]
pub fn ack(from: Role) -> Packet {
    established(from, ACK)
}

/// A FIN, after the handshake.
#[must_use]
pub fn fin(from: Role) -> Packet {
    established(from, FIN | ACK)
}

/// A RST with the expected number, after the handshake.
#[must_use]
pub fn rst(from: Role) -> Packet {
    established(from, RST)
}

/// A segment with the expected numbers after the handshake.
#[must_use]
pub fn established(from: Role, flags: u8) -> Packet {
    match from {
        Client => Packet::tcp(Client, flags, after(C, 1), after(S, 1)),
        Server => Packet::tcp(Server, flags, after(S, 1), after(C, 1)),
    }
}

/// A handshake, followed by `then`.
#[must_use]
pub fn connected(then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let mut steps = vec![
        send(syn(), Reason::NewFlow),
        send(syn_ack(), Reason::Established),
        send(handshake_ack(), Reason::Established),
    ];
    steps.extend(then);
    steps
}
