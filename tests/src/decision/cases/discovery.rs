//! Neighbour and router discovery, which is decided without the rules.

use std::net::Ipv6Addr;

use firewall_ebpf::abi::reason::Reason as R;

use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::{Extension, Layer, Packet};
use crate::decision::rules::{Peer, Traffic, allow};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Role::{self, Client, Server};

const ROUTER: &str = "fe80::1";
const HOST: &str = "fe80::10";
const GROUP: &str = "ff02::1:ff00:10";
const ALL_NODES: &str = "ff02::1";
const ALL_ROUTERS: &str = "ff02::2";
const GLOBAL: &str = "2001:db8:2::7";
/// An option with a link-layer address, and its number for the source.
const SOURCE: u8 = 1;

/// The octets of an address.
pub fn octets(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().expect("an address").octets()
}

impl Packet {
    /// Between these IPv6 addresses, whichever the scenario has.
    #[must_use]
    pub fn between(self, source: &str, destination: &str) -> Self {
        self.edit(Layer::Ip, 8, &octets(source)).edit(Layer::Ip, 24, &octets(destination))
    }
}

/// A message of `kind` between its usual addresses with a link-layer address.
pub(super) fn message(from: Role, kind: u8) -> Packet {
    let option = if kind == 136 { 2 } else { SOURCE };
    options(from, kind, 8, &[option, 1])
}

/// The same with options of `bytes` bytes, the first of which are `first`.
fn options(from: Role, kind: u8, bytes: usize, first: &[u8]) -> Packet {
    let (header, source, destination) = match kind {
        133 => (8, HOST, ALL_ROUTERS),
        134 => (16, ROUTER, ALL_NODES),
        135 => (24, ROUTER, GROUP),
        _ => (24, HOST, ROUTER),
    };
    let packet = Packet::icmp(from, (0, 0), (kind, 0)).hop_limit(255);
    let packet = packet.data(header - 8 + bytes).between(source, destination);
    let packet =
        if header == 24 { packet.edit(Layer::Transport, 8, &octets(HOST)) } else { packet };
    packet.edit(Layer::Transport, header, first)
}

fn with_options(kind: u8, bytes: usize, first: &[u8]) -> Packet {
    options(Client, kind, bytes, first)
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = vec![valid()];
    for kind in 133..=136 {
        all.push(case(
            "neighbour discovery that is not valid is dropped although rules allow it",
            invalid(kind),
        ));
        all.push(case(
            "neighbour discovery from beyond the link is dropped although rules allow it",
            [
                send(message(Client, kind).hop_limit(254), R::NeighbourDiscoveryInvalid),
                send(message(Server, kind).hop_limit(64), R::NeighbourDiscoveryInvalid),
                send(message(Client, kind).hop_limit(0), R::NeighbourDiscoveryInvalid),
                send(message(Client, kind).hop_limit(1), R::NeighbourDiscoveryInvalid),
                send(message(Client, kind).fragment(0, true), R::NeighbourDiscoveryInvalid),
            ],
        ));
    }
    all.push(case("neighbour discovery to or about other addresses is dropped", addresses()));
    let mut all: Vec<_> = all
        .into_iter()
        .map(|case| case.rules([allow(Traffic::All, Peer::Any)]).family(V6))
        .collect();
    all[0].rules = Some(Vec::new());
    for kind in [137, 144] {
        all.push(
            case(
                "other ICMPv6 types next to neighbour discovery need a rule",
                [send(message(Client, kind), R::NoRule)],
            )
            .family(V6),
        );
    }
    all.push(
        case(
            "the ICMPv6 types of neighbour discovery are not exempt in IPv4",
            [send(Packet::icmp(Client, (135, 0), (0, 0)).hop_limit(255), R::NoRule)],
        )
        .family(V4),
    );
    all
}

fn valid() -> Case {
    let mut packets = Vec::new();
    for kind in 133..=136 {
        packets.extend([message(Client, kind), message(Server, kind)]);
        packets.push(with_options(kind, 0, &[]));
        packets.push(with_options(kind, 16, &[SOURCE, 1, 0, 0, 0, 0, 0, 0, 14, 1]));
    }
    // A probe of a neighbour, and the answer to it, at addresses of wider scope.
    packets.push(message(Client, 135).between(GLOBAL, HOST));
    packets.push(message(Client, 136).between(HOST, GLOBAL));
    packets.push(message(Client, 136).between(HOST, ALL_NODES));
    // The check for a duplicate.
    packets.push(with_options(135, 0, &[]).between("::", GROUP));
    packets.push(with_options(134, 24, &[SOURCE, 1, 0, 0, 0, 0, 0, 0].repeat(3)));
    // MTU, a prefix, and DNS servers.
    let mut options = vec![5, 1, 0, 0, 0, 0, 5, 0xdc, 3, 4];
    options.resize(40, 0);
    options.extend([25, 3]);
    packets.push(with_options(134, 64, &options));
    let steps = packets.into_iter().map(|packet| send(packet, R::NeighbourDiscovery));
    case("neighbour and router discovery on the link passes without rules", steps.chain([Flows(0)]))
}

fn invalid(kind: u8) -> Vec<Step> {
    let whole = message(Client, kind);
    let seventeen: Vec<u8> = (0..17).flat_map(|_| [SOURCE, 1, 0, 0, 0, 0, 0, 0]).collect();
    let mut packets = vec![
        whole.clone().edit(Layer::Transport, 1, &[1]),
        whole.clone().extension(Extension::hop_by_hop(1)),
        whole.clone().extension(Extension::destination(2)),
        whole.clone().extension(Extension::router_alert()),
        // Unknown options, one without a length, one too long, ones that do not fill the message.
        with_options(kind, 8, &[0, 1]),
        with_options(kind, 8, &[9, 1]),
        with_options(kind, 8, &[64 + 1, 1]),
        with_options(kind, 8, &[253, 1]),
        with_options(kind, 8, &[SOURCE, 0]),
        with_options(kind, 16, &[SOURCE, 2]),
        with_options(kind, 8, &[SOURCE, 2]),
        with_options(kind, 12, &[SOURCE, 1]),
        with_options(kind, 1, &[]),
        with_options(kind, 136, &seventeen),
    ];
    // Shorter than its header, or not as long as its options.
    let cut = Packet::icmp(Client, (0, 0), (kind, 0)).hop_limit(255).data(4);
    packets.push(cut.between(ROUTER, ALL_NODES));
    if kind != 134 {
        packets.push(with_options(kind, 8, &[5, 1]));
        // More than an address and a nonce.
        packets.push(with_options(kind, 24, &seventeen[..24]));
    }
    if kind == 134 {
        // Longer than the smallest MTU.
        packets.push(with_options(kind, 1240, &[25, 155]));
    }
    packets.into_iter().map(|packet| send(packet, R::NeighbourDiscoveryInvalid)).collect()
}

fn addresses() -> Vec<Step> {
    let about = |kind, target| message(Client, kind).edit(Layer::Transport, 8, &octets(target));
    let packets = [
        message(Client, 133).between(HOST, GLOBAL),
        message(Client, 133).between(HOST, "ff0e::2"),
        message(Client, 134).between(GLOBAL, ALL_NODES),
        message(Client, 134).between(ROUTER, GLOBAL),
        message(Client, 135).between(ROUTER, GLOBAL),
        message(Client, 135).between(ROUTER, "ff05::1:ff00:10"),
        message(Client, 136).between(HOST, "ff0e::1"),
        about(135, GROUP),
        about(136, "ff0e::1"),
    ];
    packets.into_iter().map(|packet| send(packet, R::NeighbourDiscoveryInvalid)).collect()
}
