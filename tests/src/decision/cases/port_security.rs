//! What a guest may send as its own, and what may be sent to it.

use std::net::Ipv4Addr;

use firewall_ebpf::abi::flow::Tier::Proven;
use firewall_ebpf::abi::interface::Direction::Egress;
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State;

use super::discovery::octets;
use super::exempt::{ARP, BRIDGES, LAST, LLC, LLDP};
use super::{connected, data, syn, syn_ack};
use crate::decision::case::Step::{Flow, Flows};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{DOT1AD, DOT1Q, Extension, INSIDE_MAC, Layer, Packet};
use crate::decision::port::Port;
use crate::decision::rules::{Peer, Traffic, allow, allow_reverse};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Role::{Client, Server};

/// Of the inside, by family.
const OWN: [&str; 2] = ["192.0.2.10", "2001:db8:1::10"];
/// The link-local address of the inside's MAC address, and another one.
const OWN_LINK_LOCAL: &str = "fe80::ff:fe00:1";
const LINK_LOCAL: &str = "fe80::10";
/// In the networks of [`ALLOWED`](crate::decision::port::ALLOWED).
const ALLOWED: [&str; 2] = ["198.19.255.255", "2001:db8:99::ffff"];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const BROADCAST: [u8; 6] = [0xff; 6];
/// The variants that check addresses.
const CHECKED: [Port; 3] = [Port::Addresses, Port::AddressesAndMac, Port::Router];

fn v4(address: &str) -> [u8; 4] {
    address.parse::<Ipv4Addr>().expect("an address").octets()
}

/// With this source address, which is of the scenario's family.
fn from(packet: Packet, source: &str) -> Packet {
    match source.contains(':') {
        true => packet.edit(Layer::Ip, 8, &octets(source)),
        false => packet.edit(Layer::Ip, 12, &v4(source)),
    }
}

/// With this destination address.
fn to(packet: Packet, destination: &str) -> Packet {
    match destination.contains(':') {
        true => packet.edit(Layer::Ip, 24, &octets(destination)),
        false => packet.edit(Layer::Ip, 16, &v4(destination)),
    }
}

/// The cases. The client is the guest; all of its traffic is allowed, and all to it.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for port in CHECKED {
        all.extend(sources().map(|case| case.port(port)));
        all.extend(destinations().map(|case| case.port(port)));
        all.extend(arp().map(|case| case.port(port)));
        all.extend(discovery(port).map(|case| case.port(port)));
        all.push(without_address_v4().port(port));
        all.push(without_address_v6().port(port));
    }
    all.extend(undeclared());
    all.push(mac());
    for port in [Port::Undeclared, Port::Addresses, Port::AddressesAndMac] {
        all.extend(services().map(|case| case.port(port)));
    }
    all.push(router_v4());
    all.push(router_v6());
    all.extend(Port::GUESTS.map(|port| bridge().port(port)));
    let rules = [allow(Traffic::All, Peer::Any), allow_reverse(Traffic::All, Peer::Near)];
    all.into_iter().map(|case| case.client(Egress).rules(rules)).collect()
}

/// Packets of all kinds from the guest.
fn packets() -> [Packet; 7] {
    [
        syn(),
        data(Client),
        Packet::udp(Client),
        Packet::echo(Client, 1),
        Packet::error(Client, (3, 3), (1, 4), Packet::udp(Server)),
        Packet::raw(Client, 47),
        Packet::udp(Client).fragment(185, false),
    ]
}

fn sources() -> [Case; 4] {
    let foreign_v4 = ["192.0.2.11", "198.17.255.255", "10.0.0.1", "127.0.0.1", "0.0.0.0"];
    let foreign_v6 = ["2001:db8:1::11", "2001:db8:98::1", "fec0::1", "::1", "::", "ff02::1"];
    let drops = |foreign: &[&str]| {
        let mut steps = Vec::new();
        for source in foreign {
            steps.extend(packets().map(|packet| send(from(packet, source), R::SourceAddress)));
        }
        steps.push(Flows(0));
        case("a guest that uses a foreign source address is dropped", steps)
    };
    let passes = |address| {
        let steps = [
            send(from(syn(), address), R::NewFlow),
            send(to(syn_ack(), address), R::Established),
            send(syn().port(9), R::NewFlow),
        ];
        case("a guest may use an allowed address", steps)
    };
    [
        drops(&foreign_v4).family(V4),
        drops(&foreign_v6).family(V6),
        passes(ALLOWED[0]).family(V4),
        passes(ALLOWED[1]).family(V6),
    ]
}

fn destinations() -> [Case; 3] {
    let foreign = |address: &str| {
        let packets = [
            syn_ack(),
            Packet::udp(Server),
            Packet::echo(Server, 1),
            Packet::raw(Server, 47),
            Packet::udp(Server).fragment(185, false),
        ];
        packets.map(|packet| send(to(packet, address), R::DestinationAddress))
    };
    let name = "a guest receives only what is for it";
    let groups = |addresses: &[&str]| {
        addresses
            .iter()
            .map(|address| send(to(Packet::udp(Server), address), R::NewFlow))
            .collect::<Vec<_>>()
    };
    [
        case(name, [foreign("192.0.2.11"), foreign("0.0.0.0")].concat()).family(V4),
        case(name, [foreign("2001:db8:1::11"), foreign("::")].concat()).family(V6),
        case(
            "multicast and broadcast to a guest are evaluated against the rules",
            groups(&["224.0.0.251", "239.1.2.3", "255.255.255.255"])
                .into_iter()
                // The broadcast address of a subnet, known only by its MAC address.
                .chain([send(
                    to(Packet::udp(Server), "192.0.2.255").to_mac(BROADCAST),
                    R::NewFlow,
                )]),
        )
        .family(V4),
    ]
}

/// ARP from the guest with these sender and target addresses.
fn arp_message(operation: u8, mac: [u8; 6], sender: &str, target: &str) -> Packet {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, operation];
    bytes.extend(mac);
    bytes.extend(v4(sender));
    bytes.extend([0; 6]);
    bytes.extend(v4(target));
    Packet::link(Client, ARP).link_payload(&bytes)
}

fn arp() -> [Case; 1] {
    let [own, _] = OWN;
    let [allowed, _] = ALLOWED;
    let other = "192.0.2.11";
    let own_mac = |operation, sender, target| arp_message(operation, INSIDE_MAC, sender, target);
    let mut steps = Vec::new();
    for operation in [1, 2] {
        steps.extend([
            send(own_mac(operation, own, other), R::Arp),
            send(own_mac(operation, own, other).tag(DOT1Q), R::Arp),
            send(own_mac(operation, own, other).tag(DOT1AD).tag(DOT1Q), R::Arp),
            // Gratuitous.
            send(own_mac(operation, own, own).to_mac(BROADCAST), R::Arp),
            send(own_mac(operation, allowed, other), R::Arp),
            send(own_mac(operation, "0.0.0.0", own).to_mac(BROADCAST), R::Arp),
        ]);
        let wrong = [
            own_mac(operation, other, own),
            own_mac(operation, other, other).to_mac(BROADCAST),
            own_mac(operation, other, own).tag(DOT1Q).tag(DOT1Q),
            own_mac(operation, "0.0.0.0", other),
            arp_message(operation, OTHER_MAC, own, other),
            arp_message(operation, [0; 6], own, other),
        ];
        steps.extend(wrong.map(|packet| send(packet, R::ArpSender)));
    }
    // Of other lengths or protocols, and truncated.
    let base = || own_mac(1, own, other);
    steps.extend([
        send(base().edit(Layer::Transport, 2, &[0x86, 0xdd]), R::ArpSender),
        send(base().edit(Layer::Transport, 4, &[8]), R::ArpSender),
        send(base().edit(Layer::Transport, 5, &[16]), R::ArpSender),
        send(Packet::link(Client, ARP).data(27).link_payload(&[0, 1, 8, 0, 6, 4]), R::ArpSender),
        send(Packet::link(Server, ARP), R::Arp),
    ]);
    [case("the sender of a guest's ARP is the guest", steps)]
}

/// A message of neighbour discovery from the guest, about a target.
fn neighbour(kind: u8, source: &str, destination: &str, target: &str) -> Packet {
    Packet::icmp(Client, (0, 0), (kind, 0))
        .hop_limit(255)
        .data(16)
        .between(source, destination)
        .edit(Layer::Transport, 8, &octets(target))
}

const ALL_NODES: &str = "ff02::1";
const GROUP: &str = "ff02::1:ff00:10";
const ROUTER: &str = "fe80::1";

fn discovery(port: Port) -> [Case; 2] {
    let [_, own] = OWN;
    let [_, allowed] = ALLOWED;
    let other = "2001:db8:1::11";
    let passes = [
        neighbour(136, own, ALL_NODES, own),
        neighbour(136, own, ROUTER, allowed),
        neighbour(136, OWN_LINK_LOCAL, ALL_NODES, OWN_LINK_LOCAL),
        neighbour(135, own, GROUP, other),
        neighbour(135, OWN_LINK_LOCAL, GROUP, ROUTER),
        // The check for duplicates.
        neighbour(135, "::", GROUP, own),
        neighbour(135, "::", GROUP, OWN_LINK_LOCAL),
        neighbour(135, "::", GROUP, allowed),
    ];
    let mut steps: Vec<_> = passes.map(|packet| send(packet, R::NeighbourDiscovery)).into();
    for target in [other, "fec0::1"] {
        steps.extend([
            send(neighbour(136, own, ALL_NODES, target), R::NeighbourTarget),
            send(neighbour(136, OWN_LINK_LOCAL, ROUTER, target), R::NeighbourTarget),
            send(neighbour(135, "::", GROUP, target), R::NeighbourTarget),
        ]);
    }
    steps.extend([
        send(neighbour(136, other, ALL_NODES, other), R::SourceAddress),
        send(neighbour(135, other, GROUP, own), R::SourceAddress),
        send(neighbour(136, "::", ALL_NODES, own), R::SourceAddress),
        // What is sent to the guest is not about its addresses.
        send(
            Packet { from: Server, ..neighbour(136, ROUTER, ALL_NODES, ROUTER) },
            R::NeighbourDiscovery,
        ),
        send(Packet { from: Server, ..neighbour(135, ROUTER, own, own) }, R::NeighbourDiscovery),
    ]);
    // Without a MAC address, every link-local address can be the guest's.
    let mut local = vec![
        neighbour(136, own, ALL_NODES, LINK_LOCAL),
        neighbour(135, "::", GROUP, LINK_LOCAL),
        neighbour(136, LINK_LOCAL, ALL_NODES, own),
    ];
    let reasons = match port {
        Port::AddressesAndMac => [R::NeighbourTarget, R::NeighbourTarget, R::SourceAddress],
        _ => [R::NeighbourDiscovery; 3],
    };
    let local = local.drain(..).zip(reasons).map(|(packet, reason)| send(packet, reason));
    [
        case("neighbour discovery of a guest is about its own addresses", steps).family(V6),
        case("a guest with a declared MAC has one link-local address", local).family(V6),
    ]
}

const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// A message of DHCP; `operation` is 1 of a client, 2 of a server.
fn dhcp(operation: u8) -> Packet {
    let packet = Packet::udp(Client).data(300);
    packet.edit(Layer::Transport, 8, &[operation]).edit(Layer::Transport, 8 + 236, &MAGIC)
}

fn without_address_v4() -> Case {
    let report = Packet::raw(Client, 2).data(8).hop_limit(1).edit(Layer::Transport, 0, &[0x16]);
    let report = to(from(report, "0.0.0.0"), "239.1.2.3");
    let steps = [
        send(to(from(dhcp(1).ports(68, 67), "0.0.0.0"), "255.255.255.255"), R::Dhcp),
        send(report, R::MulticastMembership),
        send(from(Packet::udp(Client).ports(68, 53), "0.0.0.0"), R::SourceAddress),
        send(from(Packet::udp(Client).ports(1068, 67), "0.0.0.0"), R::SourceAddress),
        // A source that only has the ports.
        send(from(dhcp(1).ports(68, 67), "192.0.2.11"), R::SourceAddress),
    ];
    case("a guest without an IPv4 address can get one", steps).family(V4)
}

fn without_address_v6() -> Case {
    let solicitation =
        Packet::icmp(Client, (0, 0), (133, 0)).hop_limit(255).data(0).between("::", "ff02::2");
    let report = Packet::icmp(Client, (0, 0), (143, 0))
        .hop_limit(1)
        .data(20)
        .extension(Extension::router_alert())
        .between("::", "ff02::16");
    let steps = [
        send(solicitation, R::NeighbourDiscovery),
        send(report, R::MulticastMembership),
        send(Packet::echo(Client, 1).between("::", ALL_NODES), R::SourceAddress),
        send(Packet::udp(Client).ports(546, 547).between("::", "ff02::1:2"), R::SourceAddress),
    ];
    case("a guest without an IPv6 address can get one", steps).family(V6)
}

fn undeclared() -> [Case; 2] {
    let name = "the addresses of a guest of which none is declared are not checked";
    let [arp, foreign] = [arp_message(2, OTHER_MAC, "192.0.2.11", "192.0.2.1"), syn()];
    [
        case(
            name,
            [
                send(from(foreign.clone(), "10.9.9.9"), R::NewFlow),
                send(to(Packet::udp(Server), "10.9.9.9"), R::NewFlow),
                send(foreign.clone().from_mac(OTHER_MAC).port(1), R::NewFlow),
                send(arp, R::Arp),
            ],
        )
        .family(V4)
        .port(Port::Undeclared),
        case(
            name,
            [
                send(from(foreign.clone(), "2001:db8:77::1"), R::NewFlow),
                send(foreign.from_mac(OTHER_MAC).port(1), R::NewFlow),
                send(neighbour(136, OWN[1], ALL_NODES, "2001:db8:77::1"), R::NeighbourDiscovery),
            ],
        )
        .family(V6)
        .port(Port::Undeclared),
    ]
}

fn mac() -> Case {
    let mut steps = connected([
        send(data(Client), R::Established),
        // On the fast path too.
        send(data(Client).from_mac(OTHER_MAC), R::SourceMac),
        send(data(Client).from_mac([2, 0, 0, 0, 0, 0]), R::SourceMac),
        send(data(Client).from_mac([3, 0, 0, 0, 0, 1]), R::SourceMac),
        send(data(Client).from_mac(OTHER_MAC).tag(DOT1Q), R::SourceMac),
        send(data(Client).from_mac(INSIDE_MAC), R::Established),
        // The other end is behind any.
        send(data(Server).from_mac(OTHER_MAC), R::Established),
        Flow(Proven, State::Established),
    ]);
    steps.extend(packets().map(|packet| send(packet.from_mac(OTHER_MAC), R::SourceMac)));
    let arp = arp_message(2, OTHER_MAC, OWN[0], "192.0.2.1");
    let lldp = || Packet::link(Client, LLDP).to_mac(BRIDGES);
    steps.extend([
        send(arp.from_mac(OTHER_MAC), R::SourceMac),
        send(lldp().from_mac(OTHER_MAC), R::SourceMac),
        send(lldp(), R::LinkControl),
    ]);
    case("a guest with a declared MAC uses no other", steps).port(Port::AddressesAndMac)
}

/// A router advertisement from the guest, by its family's type.
fn advertisement() -> Packet {
    let packet = Packet::icmp(Client, (9, 0), (134, 0)).hop_limit(255).data(8);
    packet.edit(Layer::Ip, 1, &[0])
}

fn services() -> [Case; 3] {
    let advertisement_v6 = || advertisement().between(OWN_LINK_LOCAL, ALL_NODES);
    let redirect = Packet::icmp(Client, (5, 1), (137, 0)).hop_limit(255).data(32);
    let offer = |client, server| dhcp(2).ports(client, server);
    let name = "a guest is not a router and not a DHCP server";
    [
        case(
            name,
            [
                send(advertisement(), R::RouterAdvertisement),
                send(redirect.clone(), R::Redirect),
                // A packet as the client's replies to its own port.
                send(offer(67, 68), R::DhcpServer),
                send(to(offer(67, 68), "255.255.255.255"), R::DhcpServer),
                send(offer(1067, 68), R::DhcpServer),
                send(from(offer(67, 68), "10.9.9.9"), R::DhcpServer),
                send(offer(547, 546), R::NewFlow),
                Flows(1),
            ],
        )
        .family(V4),
        case(
            name,
            [
                send(advertisement_v6(), R::RouterAdvertisement),
                // RFC 7113: evasions.
                send(
                    advertisement_v6().extension(Extension::hop_by_hop(1)),
                    R::RouterAdvertisement,
                ),
                send(
                    advertisement_v6().extension(Extension::destination(8)),
                    R::RouterAdvertisement,
                ),
                send(advertisement_v6().fragment(0, true), R::RouterAdvertisement),
                send(advertisement_v6().hop_limit(64), R::RouterAdvertisement),
                send(advertisement_v6().tag(DOT1Q), R::RouterAdvertisement),
                send(
                    advertisement_v6()
                        .extension(Extension::destination(8))
                        .fragment(0, true)
                        .only(4),
                    R::TinyFragment,
                ),
                send(redirect.between(OWN_LINK_LOCAL, ROUTER), R::Redirect),
                send(offer(547, 546).between(OWN_LINK_LOCAL, LINK_LOCAL), R::DhcpServer),
                send(offer(40_000, 546), R::DhcpServer),
                send(offer(67, 68), R::NewFlow),
                Flows(1),
            ],
        )
        .family(V6),
        case(
            "a guest receives router advertisements, redirects and DHCP",
            [
                send(
                    Packet { from: Server, ..advertisement_v6() }.between(ROUTER, ALL_NODES),
                    R::NeighbourDiscovery,
                ),
                send(
                    Packet { from: Server, ..offer(40_000, 40_000) }
                        .ports(546, 547)
                        .edit(Layer::Transport, 8, &[7])
                        .between(ROUTER, OWN_LINK_LOCAL),
                    R::Dhcp,
                ),
            ],
        )
        .family(V6),
    ]
}

fn router_v4() -> Case {
    let redirect = Packet::icmp(Client, (5, 1), (137, 0)).data(32);
    let offer = dhcp(2).ports(67, 68);
    case(
        "what a guest that is a router sends is evaluated against the rules",
        [
            send(advertisement(), R::Admitted),
            send(redirect.clone(), R::Admitted),
            send(offer.clone(), R::NewFlow),
            send(from(redirect, "192.0.2.11"), R::SourceAddress),
            send(from(offer, "192.0.2.11"), R::SourceAddress),
        ],
    )
    .family(V4)
    .port(Port::Router)
}

fn router_v6() -> Case {
    case(
        "a guest that is a router advertises",
        [
            send(advertisement().between(LINK_LOCAL, ALL_NODES), R::NeighbourDiscovery),
            send(advertisement().between("2001:db8:1::11", ALL_NODES), R::SourceAddress),
        ],
    )
    .family(V6)
    .port(Port::Router)
}

fn bridge() -> Case {
    let bpdu = |from| Packet::link(from, LLC).link_payload(&[0x42, 0x42, 3]);
    case(
        "a guest is not a bridge",
        [
            send(bpdu(Client).to_mac(BRIDGES), R::Bpdu),
            send(bpdu(Client).to_mac(LAST), R::Bpdu),
            send(bpdu(Client).to_mac(BRIDGES).tag(DOT1Q), R::Bpdu),
            send(bpdu(Client), R::NonIp),
            send(bpdu(Server).to_mac(BRIDGES), R::LinkControl),
            send(Packet::link(Client, LLDP).to_mac(BRIDGES), R::LinkControl),
        ],
    )
}
