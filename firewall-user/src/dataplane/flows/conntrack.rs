//! The connections in the kernel's conntrack table: those that a host forwards.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use firewall_ebpf::abi::state::State;
use firewall_ebpf::wire::protocol;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Status,
    Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::host::netlink::{Netlink, is_unsupported};

/// The settings by which the host forwards, by family.
const FORWARDING: [&str; 2] =
    ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

/// A connection with packets in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    pub(super) protocol: u8,
    /// Source and destination of the first packet as it was received, before any translation.
    pub(super) original: [SocketAddr; 2],
    /// Source and destination of a reply as it is received, before it is translated back.
    pub(super) reply: [SocketAddr; 2],
    pub(super) state: State,
}

/// The connections that this thread's network namespace forwards; none if it does not forward.
///
/// # Errors
/// The table cannot be read.
pub(super) fn tracked() -> Result<Vec<Tracked>> {
    // Otherwise the request could load the kernel's module for nothing.
    let is_on = |file| fs::read_to_string(file).is_ok_and(|value| value.trim() != "0");
    if !FORWARDING.into_iter().any(is_on) {
        return Ok(Vec::new());
    }
    let client = match Netlink::open(NETLINK_NETFILTER) {
        Err(error) if is_unsupported(&error) => return Ok(Vec::new()),
        client => client.context("open a netlink socket")?,
    };
    let mut all = Vec::new();
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        let header = NetfilterHeader::new(family, 0, 0);
        let request = NetfilterMessage::new(header, ConntrackMessage::Get(Vec::new()));
        let replies = match client.dump(request) {
            // Reading it requires CAP_NET_ADMIN, which a change of maps alone does not.
            Err(error) if is_unsupported(&error) || is_not_permitted(&error) => continue,
            replies => replies.context("list the connections of conntrack")?,
        };
        all.extend(replies.iter().filter_map(|reply| match &reply.inner {
            NetfilterMessageInner::Conntrack(ConntrackMessage::New(entry)) => read(entry),
            _ => None,
        }));
    }
    Ok(all)
}

fn is_not_permitted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn read(entry: &[ConntrackAttribute]) -> Option<Tracked> {
    let (mut original, mut reply, mut status, mut tcp) = (None, None, Status::empty(), None);
    for attribute in entry {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = ends(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = ends(tuple),
            ConntrackAttribute::CtaStatus(bits) => status = *bits,
            ConntrackAttribute::CtaProtoInfo(infos) => tcp = tcp_state(infos),
            _ => {}
        }
    }
    let ((protocol, original), (_, reply)) = (original?, reply?);
    let state = match protocol {
        protocol::TCP => tcp?,
        _ if !status.contains(Status::SeenReply) => return None,
        protocol::UDP if status.contains(Status::Assured) => State::UdpStream,
        protocol::UDP => State::Udp,
        // The next request creates a flow.
        protocol::ICMP | protocol::ICMPV6 => return None,
        _ => State::Other,
    };
    Some(Tracked { protocol, original, reply, state })
}

/// The protocol, and source and destination; without ports where it has none.
fn ends(tuple: &[Tuple]) -> Option<(u8, [SocketAddr; 2])> {
    let (mut addresses, mut ports, mut protocol) = ([None::<IpAddr>; 2], [0_u16; 2], None);
    for part in tuple {
        match part {
            Tuple::Ip(parts) => parts.iter().for_each(|part| match part {
                IPTuple::SourceAddress(address) => addresses[0] = Some(*address),
                IPTuple::DestinationAddress(address) => addresses[1] = Some(*address),
                _ => {}
            }),
            Tuple::Proto(parts) => parts.iter().for_each(|part| match part {
                ProtoTuple::Protocol(number) => protocol = Some(u8::from(*number)),
                ProtoTuple::SourcePort(port) => ports[0] = *port,
                ProtoTuple::DestinationPort(port) => ports[1] = *port,
                _ => {}
            }),
            _ => {}
        }
    }
    let protocol = protocol?;
    // Flows of other protocols have no ports here, even where conntrack has some.
    if !matches!(protocol, protocol::TCP | protocol::UDP) {
        ports = [0; 2];
    }
    let [source, destination] = addresses;
    let ends = [SocketAddr::new(source?, ports[0]), SocketAddr::new(destination?, ports[1])];
    Some((protocol, ends))
}

/// The state of an open connection, by `TCP_CONNTRACK_*` (nf_conntrack_tcp.h).
fn tcp_state(infos: &[ProtoInfo]) -> Option<State> {
    let numbers = infos.iter().flat_map(|info| match info {
        ProtoInfo::TCP(parts) => &parts[..],
        _ => &[],
    });
    let mut number = numbers.filter_map(|part| match part {
        ProtoInfoTCP::State(number) => Some(*number),
        _ => None,
    });
    match number.next()? {
        3 => Some(State::Established),
        4 => Some(State::FinWait),
        5 => Some(State::CloseWait),
        6 => Some(State::LastAck),
        7 => Some(State::TimeWait),
        _ => None,
    }
}
