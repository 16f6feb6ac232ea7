//! Network ACLs and blocks of an interface: stateless, in both directions, before flows and rules.

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::interface::Direction::{Egress, Ingress};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State;

use super::exempt::ARP;
use super::icmp_errors::too_big;
use super::{ack, connected, data, dhcp, discovery, multicast, rst, syn, syn_ack};
use crate::decision::case::Count::{Entry as At, Last};
use crate::decision::case::Step::{Counted, Filter, Flow, Flows, Rules, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::deny::{Entry, deny, own_block, permit, permit_all};
use crate::decision::packet::flags::{ACK, SYN};
use crate::decision::packet::{DOT1AD, DOT1Q, Packet};
use crate::decision::rules::{ECHO, Peer, Traffic, allow, allow_reverse, default_rules};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Outside::{Far, Near, Neighbour};
use crate::decision::scenario::Role::{Client, Server};

const SERVICE: Traffic = Traffic::Tcp(443, 443);
const EPHEMERAL: Traffic = Traffic::Tcp(32_768, 65_535);

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = matching();
    all.extend(tracked());
    all.extend(kept());
    all.extend(other_packets());
    all.extend(exempt());
    all.extend(ends());
    all
}

fn filter(entries: impl IntoIterator<Item = Entry>) -> Step {
    Filter(Some(entries.into_iter().collect()))
}

fn matching() -> Vec<Case> {
    vec![
        case(
            "a network ACL without entries denies everything in both directions",
            [
                filter([]),
                send(syn(), R::Acl),
                send(Packet::tcp(Server, SYN, 1, 0), R::Acl),
                send(Packet::udp(Client), R::Acl),
                send(Packet::raw(Server, 47), R::Acl),
                send(Packet::echo(Client, 1), R::Acl),
                Counted(Last(Client), 3),
                Counted(Last(Server), 2),
                Flows(0),
            ],
        )
        .all_tcp_checks(),
        case(
            "what the network ACL allows needs a rule as well",
            [
                filter(permit_all()),
                send(syn(), R::NewFlow),
                send(syn().port(80), R::NoRule),
                send(Packet::udp(Server), R::NoRule),
                Counted(At(0), 2),
                Counted(At(1), 1),
                Counted(Last(Client), 0),
            ],
        )
        .all_tcp_checks(),
        case(
            "the first entry that matches decides, whatever follows",
            [
                filter([
                    deny(Client, SERVICE, Peer::Host(Neighbour)),
                    permit(Client, SERVICE, Peer::Near),
                    deny(Client, Traffic::All, Peer::Any),
                    permit(Client, Traffic::All, Peer::Any),
                ]),
                send(syn().outside(Neighbour), R::Acl),
                send(syn(), R::NewFlow),
                send(syn().port(22), R::Acl),
                send(syn().outside(Far), R::Acl),
                Counted(At(0), 1),
                Counted(At(1), 1),
                Counted(At(2), 2),
                Counted(At(3), 0),
            ],
        )
        .rules([allow(Traffic::All, Peer::Any)])
        .all_tcp_checks(),
        case(
            "an entry that allows a network also allows an address that a later entry denies",
            [
                filter([
                    permit(Client, SERVICE, Peer::Wide),
                    deny(Client, SERVICE, Peer::Host(Near)),
                ]),
                send(syn(), R::NewFlow),
                Counted(At(0), 1),
            ],
        )
        .all_tcp_checks(),
        case(
            "entries of nested networks are ordered by their numbers, not by their lengths",
            [
                filter([
                    deny(Client, Traffic::Tcp(1, 10), Peer::Any),
                    permit(Client, Traffic::Tcp(5, 20), Peer::Host(Near)),
                    deny(Client, Traffic::Tcp(15, 30), Peer::Near),
                    permit(Client, Traffic::Tcp(0, 65_535), Peer::Wide),
                ]),
                send(syn().port(0), R::NewFlow),
                send(syn().port(1), R::Acl),
                send(syn().port(10), R::Acl),
                send(syn().port(11), R::NewFlow),
                send(syn().port(20), R::NewFlow),
                send(syn().port(21), R::Acl),
                send(syn().port(30), R::Acl),
                send(syn().port(31), R::NewFlow),
                send(syn().port(15).outside(Neighbour), R::Acl),
                send(syn().port(14).outside(Neighbour), R::NewFlow),
                send(syn().port(14).outside(Far), R::Acl),
                Counted(At(0), 2),
                Counted(At(1), 2),
                Counted(At(2), 3),
                Counted(At(3), 3),
                Counted(Last(Client), 1),
            ],
        )
        .rules([allow(Traffic::All, Peer::Any)])
        .all_tcp_checks(),
        case(
            "a port range includes both of its ends, and no other protocol",
            [
                filter([deny(Client, Traffic::Tcp(1000, 1999), Peer::Any), permit_all()[0]]),
                send(syn().port(999), R::NewFlow),
                send(syn().port(1000), R::Acl),
                send(syn().port(1999), R::Acl),
                send(syn().port(2000), R::NewFlow),
                send(Packet::udp(Client).port(1000), R::NewFlow),
            ],
        )
        .rules([allow(Traffic::All, Peer::Near)])
        .all_tcp_checks(),
        case(
            "ICMP is matched by type and code",
            [
                filter([
                    deny(Client, Traffic::Icmp { v4: (3, Some(1)), v6: (1, Some(1)) }, Peer::Any),
                    permit(Client, Traffic::Icmp { v4: (3, None), v6: (1, None) }, Peer::Any),
                    permit(Client, ECHO, Peer::Near),
                ]),
                send(Packet::icmp(Client, (3, 1), (1, 1)), R::Acl),
                send(Packet::icmp(Client, (5, 0), (137, 0)), R::Acl),
                send(Packet::echo(Client, 1), R::NewFlow),
                send(Packet::echo(Client, 1).outside(Far), R::Acl),
                Counted(At(0), 1),
                Counted(At(1), 0),
                Counted(At(2), 1),
                Counted(Last(Client), 2),
            ],
        )
        .rules([allow(Traffic::All, Peer::Any)]),
        case(
            "another protocol is matched as a whole",
            [
                filter([deny(Client, Traffic::Protocol(47), Peer::Any), permit_all()[0]]),
                send(Packet::raw(Client, 47), R::Acl),
                send(Packet::raw(Client, 50), R::NewFlow),
            ],
        )
        .rules([allow(Traffic::All, Peer::Near)]),
    ]
}

/// The web server of the AWS documents, and flows that an entry cuts.
fn tracked() -> Vec<Case> {
    vec![
        case(
            "replies need an entry for the client's ephemeral ports",
            [
                filter([permit(Client, SERVICE, Peer::Any)]),
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Acl),
                Counted(Last(Server), 1),
                filter([permit(Client, SERVICE, Peer::Any), permit(Server, EPHEMERAL, Peer::Any)]),
                send(syn_ack(), R::Established),
                send(ack(Client), R::Established),
                send(data(Server), R::Established),
                send(syn().ports(32_767, 443), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, 1, 1).ports(32_767, 443), R::Acl),
            ],
        )
        .all_tcp_checks(),
        case(
            "an entry cuts a flow while it stands, and the flow goes on afterwards",
            connected([
                send(data(Client), R::Established),
                filter([deny(Client, SERVICE, Peer::Host(Near)), permit_all()[0], permit_all()[1]]),
                send(data(Client), R::Acl),
                send(ack(Client), R::Acl),
                send(rst(Client), R::Acl),
                // The other direction is not denied.
                send(ack(Server), R::Established),
                Counted(At(0), 3),
                Flow(Proven, State::Established),
                filter([]),
                send(ack(Server), R::Acl),
                Filter(None),
                send(data(Client), R::Established),
                send(ack(Server), R::Established),
                Flow(Proven, State::Established),
            ]),
        )
        .all_tcp_checks(),
        case(
            "an entry cuts a flow of the new tier, and UDP",
            [
                send(Packet::udp(Client).port(53), R::NewFlow),
                filter([permit(Client, Traffic::Udp(53, 53), Peer::Any)]),
                send(Packet::udp(Server).port(53), R::Acl),
                send(Packet::udp(Client).port(53), R::Established),
                Filter(None),
                send(Packet::udp(Server).port(53), R::Established),
                Wait(2),
                send(Packet::udp(Client).port(53), R::Established),
                Flow(Proven, State::UdpStream),
                filter([]),
                send(Packet::udp(Client).port(53), R::Acl),
                send(Packet::udp(Server).port(53), R::Acl),
                filter(permit_all()),
                send(Packet::udp(Client).port(53), R::Established),
                send(Packet::udp(Server).port(53), R::Established),
            ],
        )
        .rules([allow(Traffic::Udp(53, 53), Peer::Near)])
        .all_tcp_checks(),
        case(
            "a dropped packet does not keep a flow alive",
            [
                send(Packet::udp(Client).port(53), R::NewFlow),
                Wait(20),
                filter([]),
                send(Packet::udp(Client).port(53), R::Acl),
                Filter(None),
                Wait(20),
                send(Packet::udp(Server).port(53), R::NoRule),
            ],
        )
        .rules([allow(Traffic::Udp(53, 53), Peer::Near)]),
        case(
            "a block of the interface is counted as blocked, in both directions",
            connected([
                filter([own_block(Peer::Host(Near)), permit_all()[0], permit_all()[1]]),
                send(data(Client), R::Blocked),
                send(data(Server), R::Blocked),
                send(syn().outside(Neighbour), R::NewFlow),
                Counted(At(0), 2),
                Counted(At(1), 1),
                filter(permit_all()),
                send(data(Client), R::Established),
                send(ack(Server), R::Established),
            ]),
        )
        .all_tcp_checks(),
        case(
            "untracked traffic is looked up for every packet",
            [
                filter(permit_all()),
                send(syn(), R::Untracked),
                send(syn_ack(), R::Untracked),
                send(data(Client), R::Untracked),
                Counted(At(0), 2),
                Counted(At(1), 1),
                filter([permit_all()[0]]),
                send(data(Client), R::Untracked),
                send(data(Server), R::Acl),
            ],
        )
        .rules([allow(SERVICE, Peer::Any), allow_reverse(Traffic::All, Peer::Any)]),
        case(
            "a policy change leaves the network ACL as it is",
            [
                filter([permit(Client, SERVICE, Peer::Any)]),
                send(syn(), R::NewFlow),
                Rules(vec![allow(Traffic::All, Peer::Any)]),
                send(syn().port(80), R::Acl),
                send(syn().ports(40_001, 443), R::NewFlow),
                send(syn_ack(), R::Acl),
            ],
        )
        .always_tracked(),
    ]
}

/// What a flow keeps of the lookup. With an Ethernet header only, because other packets have no fast path:
/// the cases have an ARP packet for that.
fn kept() -> Vec<Case> {
    let ethernet = || send(Packet::link(Client, ARP), R::Arp);
    vec![
        case(
            "an established flow is looked up once for each direction and filter",
            [filter(permit_all())].into_iter().chain(connected([
                ethernet(),
                // The SYN and the ACK of the handshake, and the SYN-ACK.
                Counted(At(0), 2),
                Counted(At(1), 1),
                send(data(Client), R::Established),
                send(data(Client), R::Established),
                send(ack(Server), R::Established),
                Counted(At(0), 2),
                Counted(At(1), 1),
                // Other entries, the same verdict.
                filter([permit_all()[1], permit_all()[0]]),
                send(data(Client), R::Established),
                send(data(Client), R::Established),
                Counted(At(1), 2),
                send(ack(Server), R::Established),
                send(ack(Server), R::Established),
                Counted(At(0), 3),
                // No filter, then the same again: the flow still has what it kept.
                Filter(None),
                send(data(Client), R::Established),
                filter([permit_all()[1], permit_all()[0]]),
                send(data(Client), R::Established),
                Counted(At(1), 2),
                // The first one again.
                filter(permit_all()),
                send(data(Client), R::Established),
                Counted(At(0), 4),
            ])),
        ),
        case(
            "a proven UDP flow is looked up once for each direction",
            [
                ethernet(),
                filter(permit_all()),
                send(Packet::udp(Client).port(53), R::NewFlow),
                send(Packet::udp(Server).port(53), R::Established),
                Wait(2),
                send(Packet::udp(Client).port(53), R::Established),
                Counted(At(0), 2),
                Counted(At(1), 1),
                send(Packet::udp(Client).port(53), R::Established),
                send(Packet::udp(Server).port(53), R::Established),
                Counted(At(0), 2),
                Counted(At(1), 1),
            ],
        )
        .rules([allow(Traffic::Udp(53, 53), Peer::Near)]),
        case(
            "a flow that an entry with an end allows is looked up for every packet",
            [filter([
                permit(Client, SERVICE, Peer::Near).ending(60),
                permit(Server, EPHEMERAL, Peer::Any),
            ])]
            .into_iter()
            .chain(connected([
                ethernet(),
                send(data(Client), R::Established),
                send(data(Client), R::Established),
                Counted(At(0), 4),
                send(ack(Server), R::Established),
                send(ack(Server), R::Established),
                Counted(At(1), 1),
                Wait(61),
                send(data(Client), R::Acl),
                send(ack(Server), R::Established),
                Counted(At(0), 4),
                Counted(Last(Client), 1),
            ])),
        ),
        case(
            "an entry with an end for other traffic does not matter to a flow",
            [filter([
                deny(Client, Traffic::Tcp(22, 22), Peer::Near).ending(60),
                permit_all()[0],
                permit_all()[1],
            ])]
            .into_iter()
            .chain(connected([
                ethernet(),
                send(data(Client), R::Established),
                send(data(Client), R::Established),
                Counted(At(1), 2),
                Wait(61),
                send(data(Client), R::Established),
                Counted(At(1), 2),
            ])),
        ),
        case(
            "a flow goes on at once when the entry that cut it ends",
            connected([
                ethernet(),
                filter([
                    deny(Client, SERVICE, Peer::Near).ending(10),
                    permit_all()[0],
                    permit_all()[1],
                ]),
                send(data(Client), R::Acl),
                Wait(11),
                send(data(Client), R::Established),
                send(data(Client), R::Established),
                Counted(At(0), 1),
                Counted(At(1), 1),
            ]),
        ),
    ]
}

fn other_packets() -> Vec<Case> {
    let later =
        |protocol, offset, more| Packet::raw(Client, protocol).data(64).fragment(offset, more);
    vec![
        case(
            "fragments follow their first, whatever the network ACL says by then",
            [
                filter([permit(Client, SERVICE, Peer::Any)]),
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 13, true), R::LaterFragment),
                filter([]),
                send(later(6, 13, true), R::LaterFragment),
                send(syn().data(64).fragment(0, true), R::Acl),
                Counted(Last(Client), 1),
            ],
        ),
        case(
            "later fragments of a denied first one are dropped",
            [
                filter([deny(Client, SERVICE, Peer::Any), permit_all()[0]]),
                send(syn().data(64).fragment(0, true), R::Acl),
                send(later(6, 13, true), R::Fragment),
                Counted(At(0), 1),
                Counted(At(1), 0),
            ],
        ),
        case(
            "frames with VLAN tags, options and extension headers are looked up",
            [
                filter([]),
                send(syn().tag(DOT1Q), R::Acl),
                send(syn().tag(DOT1AD).tag(DOT1Q), R::Acl),
                send(syn().options(8), R::Acl),
                send(syn().padding(6), R::Acl),
                Counted(Last(Client), 4),
            ],
        ),
        case(
            "an ICMP error about a flow needs an entry of its type",
            connected([
                filter([permit(Client, SERVICE, Peer::Any), permit(Server, EPHEMERAL, Peer::Any)]),
                send(too_big(Server, data(Client)), R::Acl),
                send(too_big(Client, data(Server)), R::Acl),
                filter([
                    permit(Server, Traffic::Icmp { v4: (3, Some(4)), v6: (2, Some(0)) }, Peer::Any),
                    permit(Client, Traffic::Icmp { v4: (3, Some(4)), v6: (2, Some(0)) }, Peer::Any),
                ]),
                send(too_big(Server, data(Client)), R::Related),
                send(too_big(Client, data(Server)), R::Related),
                Counted(At(0), 1),
                Counted(At(1), 1),
            ]),
        )
        .all_tcp_checks(),
        case(
            "an echo reply needs an entry of its type",
            [
                filter([permit(Client, ECHO, Peer::Any)]),
                send(Packet::echo(Client, 5), R::NewFlow),
                send(Packet::echo_reply(Server, 5), R::Acl),
                filter([
                    permit(Client, ECHO, Peer::Any),
                    permit(Server, Traffic::Icmp { v4: (0, None), v6: (129, None) }, Peer::Any),
                ]),
                send(Packet::echo_reply(Server, 5), R::Established),
                Flow(New, State::Icmp),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "a packet that does not parse has the parser's reason",
            [
                filter([]),
                send(Packet::tcp(Client, 0, 1, 1), R::TcpFlags),
                send(Packet::udp(Client).only(7), R::UdpHeader),
                Counted(Last(Client), 0),
            ],
        ),
        case("without a policy nothing is looked up", [filter([]), send(syn(), R::NoPolicy)])
            .without_policy(),
    ]
}

fn exempt() -> Vec<Case> {
    let mut all = vec![case(
        "ARP is not subject to the network ACL",
        [
            filter([]),
            send(Packet::link(Client, ARP), R::Arp),
            send(Packet::link(Server, ARP), R::Arp),
        ],
    )];
    all.push(
        case(
            "neighbour discovery is not subject to the network ACL",
            [
                filter([]),
                send(discovery::message(Client, 135), R::NeighbourDiscovery),
                send(discovery::message(Server, 136), R::NeighbourDiscovery),
                Counted(Last(Client), 0),
            ],
        )
        .family(V6),
    );
    all.push(
        case(
            "DHCP is not subject to the network ACL",
            [
                filter([]),
                send(dhcp::question(), R::Dhcp),
                send(dhcp::answer(), R::Dhcp),
                // Not a message of DHCP.
                send(Packet::udp(Client).ports(68, 67).data(300), R::Acl),
                Counted(Last(Client), 1),
            ],
        )
        .family(V4)
        .client(Egress),
    );
    all.push(
        case(
            "IGMP is not subject to the network ACL",
            [filter([]), send(multicast::igmp(Client, 0x16), R::MulticastMembership)],
        )
        .family(V4)
        .client(Egress),
    );
    all.push(
        case(
            "MLD is not subject to the network ACL",
            [filter([]), send(multicast::mld(Client, 143), R::MulticastMembership)],
        )
        .family(V6)
        .client(Egress),
    );
    all
}

fn ends() -> Vec<Case> {
    let all = permit_all();
    vec![
        case(
            "an entry that has ended matches nothing, and the next one decides",
            [
                filter([deny(Client, SERVICE, Peer::Near).ending(10), all[0]]),
                send(syn(), R::Acl),
                Wait(10),
                send(syn(), R::Acl),
                Wait(1),
                send(syn(), R::NewFlow),
                Counted(At(0), 2),
                Counted(At(1), 1),
            ],
        )
        .all_tcp_checks(),
        case(
            "entries of nested networks end one after the other",
            [
                filter([
                    deny(Client, SERVICE, Peer::Host(Near)).ending(10),
                    permit(Client, SERVICE, Peer::Near).ending(20),
                    deny(Client, SERVICE, Peer::Wide).ending(30),
                    permit(Client, SERVICE, Peer::Any).ending(40),
                ]),
                send(syn(), R::Acl),
                Wait(11),
                send(syn(), R::NewFlow),
                Wait(10),
                send(syn().ports(40_001, 443), R::Acl),
                Wait(10),
                send(syn().ports(40_001, 443), R::NewFlow),
                Wait(10),
                send(syn().ports(40_002, 443), R::Acl),
                Counted(At(0), 1),
                Counted(At(1), 1),
                Counted(At(2), 1),
                Counted(At(3), 1),
                Counted(Last(Client), 1),
            ],
        )
        .all_tcp_checks(),
        case(
            "of entries that have ended at the same time none decides",
            [
                filter([
                    deny(Client, SERVICE, Peer::Host(Near)).ending(10),
                    deny(Client, SERVICE, Peer::Near).ending(10),
                    deny(Client, SERVICE, Peer::Any).ending(5),
                    all[0],
                ]),
                Wait(11),
                send(syn(), R::NewFlow),
                Counted(At(3), 1),
            ],
        ),
        case(
            "an entry that ends later decides after an earlier one of the table has ended",
            [
                filter([
                    permit(Client, SERVICE, Peer::Near).ending(10),
                    deny(Client, Traffic::Tcp(0, 65_535), Peer::Any).ending(100),
                    all[0],
                ]),
                send(syn(), R::NewFlow),
                Wait(11),
                send(syn().ports(40_001, 443), R::Acl),
                send(Packet::udp(Client), R::NoRule),
                Wait(90),
                send(syn().ports(40_001, 443), R::NewFlow),
                Counted(At(0), 1),
                Counted(At(1), 1),
                Counted(At(2), 2),
            ],
        ),
        case(
            "a block of the interface that has ended blocks nothing",
            [
                filter([own_block(Peer::Near).ending(5), all[0], all[1]]),
                send(syn(), R::Blocked),
                Wait(6),
                send(syn(), R::NewFlow),
            ],
        ),
        case(
            "a rule that ends allows no new flow afterwards, and its flows go on",
            connected([
                Wait(61),
                send(syn().ports(40_001, 443), R::NoRule),
                send(data(Client), R::Established),
            ]),
        )
        .rules([allow(SERVICE, Peer::Near).ending(60)])
        .revalidate(false),
        case(
            "with revalidation the flows of a rule that has ended are revoked",
            connected([
                send(data(Client), R::Established),
                send(too_big(Server, data(Client)), R::Related),
                Wait(61),
                send(data(Client), R::Revoked),
                send(data(Server), R::Revoked),
                send(too_big(Server, data(Client)), R::NoRule),
                Rules(default_rules()),
                send(data(Client), R::Established),
            ]),
        )
        .rules([allow(SERVICE, Peer::Near).ending(60)])
        .revalidate(true),
        case(
            "after a rule has ended those of the enclosing networks decide",
            [
                send(syn(), R::NewFlow),
                send(syn().port(80), R::NoRule),
                Wait(11),
                send(syn().ports(40_001, 443), R::NewFlow),
                Wait(10),
                send(syn().ports(40_002, 443), R::NewFlow),
                Rules(vec![allow(SERVICE, Peer::Host(Near)).ending(10)]),
                send(syn().ports(40_003, 443), R::NewFlow),
                Wait(11),
                send(syn().ports(40_004, 443), R::NoRule),
            ],
        )
        .rules([
            allow(SERVICE, Peer::Host(Near)).ending(10),
            allow(SERVICE, Peer::Near).ending(20),
            allow(SERVICE, Peer::Wide),
        ])
        .client(Ingress),
    ]
}
