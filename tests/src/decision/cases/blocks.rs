//! Blocks of the whole host: before everything else, in both directions.

use firewall_ebpf::abi::flow::Tier::Proven;
use firewall_ebpf::abi::interface::Direction::Egress;
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State;

use super::exempt::ARP;
use super::icmp_errors::too_big;
use super::{ack, connected, data, dhcp, discovery, syn, syn_ack};
use crate::decision::case::Count::{Block as At, Entry};
use crate::decision::case::Step::{Blocks, Counted, Filter, Flow, Flows, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::deny::{Block, block, permit_all};
use crate::decision::packet::{DOT1AD, DOT1Q, Extension, Packet};
use crate::decision::rules::{Peer, Traffic, allow};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Outside::{Far, Near, Neighbour};
use crate::decision::scenario::Role::{Client, Server};

/// The name of the case of a packet that does not parse.
pub const SHORT_AND_BLOCKED: &str =
    "a packet shorter than its transport header is blocked where no header is needed";

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = addresses();
    all.extend(packets());
    all.extend(ends());
    all
}

fn blocks(blocks: impl IntoIterator<Item = Block>) -> Step {
    Blocks(blocks.into_iter().collect())
}

fn near() -> Step {
    blocks([block(Peer::Host(Near))])
}

fn addresses() -> Vec<Case> {
    vec![
        case(
            "a blocked address is cut off in both directions, and its flows go on afterwards",
            connected([
                send(data(Client), R::Established),
                near(),
                send(data(Client), R::Blocked),
                send(data(Server), R::Blocked),
                send(syn().ports(40_001, 443), R::Blocked),
                send(Packet::udp(Server), R::Blocked),
                Counted(At(0), 4),
                Flow(Proven, State::Established),
                blocks([]),
                send(data(Client), R::Established),
                send(ack(Server), R::Established),
            ]),
        )
        .all_tcp_checks(),
        case(
            "other addresses of the network are not blocked",
            [
                near(),
                send(syn().outside(Neighbour), R::NewFlow),
                send(syn_ack().outside(Neighbour), R::Established),
                send(syn().outside(Far), R::NoRule),
                send(syn(), R::Blocked),
                Counted(At(0), 1),
            ],
        )
        .all_tcp_checks(),
        case(
            "blocked networks nest, and the longest prefix is counted",
            [
                blocks([block(Peer::Wide).ending(600), block(Peer::Host(Near))]),
                send(syn(), R::Blocked),
                send(syn().outside(Neighbour), R::Blocked),
                send(syn().outside(Far), R::NoRule),
                Counted(At(0), 1),
                Counted(At(1), 1),
            ],
        ),
        case(
            "every address can be blocked",
            [
                blocks([block(Peer::Any)]),
                send(syn(), R::Blocked),
                send(syn().outside(Far), R::Blocked),
                send(Packet::raw(Server, 47), R::Blocked),
                Counted(At(0), 3),
            ],
        )
        .all_tcp_checks(),
        case(
            "blocks come before the network ACL, whose entries count nothing",
            [
                Filter(Some(permit_all().into())),
                near(),
                send(syn(), R::Blocked),
                Counted(Entry(0), 0),
                send(syn().outside(Neighbour), R::NewFlow),
                Counted(Entry(0), 1),
                Counted(At(0), 1),
            ],
        ),
        case("without a policy nothing is blocked", [near(), send(syn(), R::NoPolicy)])
            .without_policy(),
        case(
            "untracked traffic is blocked",
            [send(syn(), R::Untracked), near(), send(syn(), R::Blocked), Flows(0)],
        )
        .rules([
            allow(Traffic::All, Peer::Any),
            crate::decision::rules::allow_reverse(Traffic::All, Peer::Any),
        ]),
    ]
}

fn packets() -> Vec<Case> {
    let later = |offset| Packet::raw(Client, 6).data(64).fragment(offset, true);
    vec![
        case(
            "fragments are blocked, also later ones of a first that passed",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(13), R::LaterFragment),
                near(),
                send(later(13), R::Blocked),
                send(syn().data(64).fragment(0, true), R::Blocked),
                Counted(At(0), 2),
                blocks([]),
                send(later(13), R::LaterFragment),
            ],
        ),
        case(
            "frames with VLAN tags are blocked",
            [
                near(),
                send(syn().tag(DOT1Q), R::Blocked),
                send(syn_ack().tag(DOT1Q), R::Blocked),
                send(syn().tag(DOT1AD).tag(DOT1Q), R::Blocked),
                send(syn().tag(DOT1AD).tag(DOT1Q).tag(DOT1Q), R::VlanDepth),
                send(syn().tag(DOT1Q).outside(Neighbour), R::NewFlow),
                Counted(At(0), 3),
            ],
        )
        .all_tcp_checks(),
        case(
            "packets with IPv4 options are blocked",
            [
                near(),
                send(syn().options(8), R::Blocked),
                send(syn().options(40).tag(DOT1Q), R::Blocked),
            ],
        )
        .family(V4),
        case(
            "packets with extension headers are blocked",
            [
                near(),
                send(syn().extension(Extension::destination(1)), R::Blocked),
                send(syn().extension(Extension::hop_by_hop(1)).tag(DOT1Q), R::Blocked),
            ],
        )
        .family(V6),
        case(
            "a packet that contradicts its protocol is blocked before that is seen",
            [
                near(),
                send(Packet::tcp(Client, 0, 1, 1), R::Blocked),
                send(Packet::tcp(Client, 0, 1, 1).tag(DOT1Q), R::Blocked),
                Counted(At(0), 2),
            ],
        ),
        case(
            SHORT_AND_BLOCKED,
            [
                // Not without an Ethernet header, where the packet must parse first.
                send(Packet::link(Client, ARP), R::Arp),
                near(),
                send(Packet::udp(Client).only(7).padding(40), R::Blocked),
                send(Packet::udp(Client).only(7).padding(40).tag(DOT1Q), R::UdpHeader),
                Counted(At(0), 1),
            ],
        ),
        case(
            "an ICMP error of a blocked router is blocked, though it is about a flow",
            connected([
                blocks([block(Peer::Host(Far))]),
                send(too_big(Server, data(Client)), R::Related),
                send(data(Client), R::Established),
                near(),
                send(too_big(Client, data(Server)), R::Blocked),
                send(too_big(Server, data(Client)), R::Blocked),
            ]),
        ),
        case(
            "ARP is not IP, and not blocked",
            [near(), send(Packet::link(Client, ARP), R::Arp), Counted(At(0), 0)],
        ),
        case(
            "neighbour discovery of a blocked address is blocked",
            [
                send(discovery::message(Client, 135), R::NeighbourDiscovery),
                blocks([block(Peer::Any)]),
                send(discovery::message(Client, 135), R::Blocked),
                send(discovery::message(Client, 135).tag(DOT1Q), R::Blocked),
                Counted(At(0), 2),
            ],
        )
        .family(V6),
        case(
            "DHCP of a blocked server is blocked",
            [
                send(dhcp::question(), R::Dhcp),
                near(),
                send(dhcp::answer(), R::Blocked),
                Counted(At(0), 1),
            ],
        )
        .family(V4)
        .client(Egress),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        case(
            "a block that has ended blocks nothing, by any path",
            [
                blocks([block(Peer::Host(Near)).ending(10)]),
                send(syn(), R::Blocked),
                send(syn().tag(DOT1Q), R::Blocked),
                Wait(10),
                send(syn(), R::Blocked),
                Wait(1),
                send(syn(), R::NewFlow),
                send(syn().tag(DOT1Q), R::Established),
                Counted(At(0), 3),
            ],
        )
        .all_tcp_checks(),
        case(
            "an address stays blocked by its network after its own block has ended",
            [
                blocks([block(Peer::Host(Near)).ending(10), block(Peer::Near)]),
                send(syn(), R::Blocked),
                Wait(11),
                send(syn(), R::Blocked),
                Counted(At(0), 0),
                Counted(At(1), 2),
            ],
        ),
        case(
            "of two blocks with an end the one that ends last is in force",
            [
                blocks([
                    block(Peer::Wide).ending(20),
                    block(Peer::Host(Near)).ending(10),
                    block(Peer::Host(Neighbour)).ending(30),
                ]),
                send(syn(), R::Blocked),
                Wait(11),
                send(syn(), R::Blocked),
                send(syn().outside(Neighbour), R::Blocked),
                Wait(10),
                send(syn(), R::NewFlow),
                send(syn().outside(Neighbour), R::Blocked),
                Wait(10),
                send(syn().outside(Neighbour), R::NewFlow),
                Counted(At(0), 2),
                Counted(At(1), 0),
                Counted(At(2), 2),
            ],
        ),
    ]
}
