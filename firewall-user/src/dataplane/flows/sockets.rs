//! The connected sockets of a network namespace (sock_diag(7)).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use firewall_ebpf::abi::state::State;
use firewall_ebpf::wire::protocol;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2,
    TCP_LAST_ACK, TCP_LISTEN, TCP_TIME_WAIT,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::host::netlink::{Netlink, is_unsupported};

/// A socket that is connected to a remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connected {
    pub(super) protocol: u8,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The index of the device that it is bound to; 0 if to none.
    pub(super) device: u32,
    pub(super) state: State,
    /// Whether the remote end opened the connection.
    pub(super) is_server: bool,
    /// Whether the local end sent the first FIN.
    pub(super) is_finisher: bool,
}

/// Every connected TCP and UDP socket of this thread's network namespace.
///
/// # Errors
/// The sockets cannot be listed.
pub(super) fn connected() -> Result<Vec<Connected>> {
    let client = match Netlink::open(NETLINK_SOCK_DIAG) {
        Err(error) if is_unsupported(&error) => return Ok(Vec::new()),
        client => client.context("open a netlink socket")?,
    };
    let mut all = Vec::new();
    for protocol in [protocol::TCP, protocol::UDP] {
        let mut sockets = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
            let request = InetRequest {
                family,
                protocol,
                extensions: ExtensionFlags::empty(),
                states: StateFlags::all(),
                socket_id: id,
            };
            let replies = match client.dump(SockDiagMessage::InetRequest(request)) {
                Err(error) if is_unsupported(&error) => continue,
                replies => replies.context("list the sockets")?,
            };
            sockets.extend(replies.into_iter().filter_map(|reply| match reply {
                SockDiagMessage::InetResponse(socket) => Some(*socket),
                _ => None,
            }));
        }
        all.extend(read(protocol, &sockets));
    }
    Ok(all)
}

/// The connected ones among the sockets of a protocol.
fn read(protocol: u8, sockets: &[InetResponse]) -> Vec<Connected> {
    let listening: HashSet<(IpAddr, u16)> =
        sockets.iter().filter(|one| is_listening(protocol, one)).map(local).collect();
    let on_any_address: HashSet<u16> = listening
        .iter()
        .filter(|(address, _)| address.is_unspecified())
        .map(|(_, port)| *port)
        .collect();
    let is_server = |(address, port): (IpAddr, u16)| {
        on_any_address.contains(&port) || listening.contains(&(address, port))
    };
    let connected = sockets.iter().filter_map(|socket| {
        let (state, is_finisher) = state(protocol, socket.header.state)?;
        let SocketId { destination_address, destination_port, interface_id, .. } =
            socket.header.socket_id;
        let ((address, port), remote) = (local(socket), destination_address.to_canonical());
        (destination_port != 0 && !remote.is_unspecified()).then(|| Connected {
            protocol,
            local: SocketAddr::new(address, port),
            remote: SocketAddr::new(remote, destination_port),
            device: interface_id,
            state,
            is_server: is_server((address, port)),
            is_finisher,
        })
    });
    connected.collect()
}

fn local(socket: &InetResponse) -> (IpAddr, u16) {
    let id = &socket.header.socket_id;
    (id.source_address.to_canonical(), id.source_port)
}

/// Whether a socket receives from any remote address.
fn is_listening(protocol: u8, socket: &InetResponse) -> bool {
    match protocol {
        protocol::TCP => socket.header.state == TCP_LISTEN,
        _ => socket.header.socket_id.destination_port == 0,
    }
}

/// The flow state of a socket's connection, and whether its own end sent the first FIN; `None` during a
/// handshake, whose SYN is retransmitted and evaluated by the rules.
fn state(protocol: u8, state: u8) -> Option<(State, bool)> {
    match (protocol, state) {
        (protocol::TCP, TCP_ESTABLISHED) => Some((State::Established, false)),
        (protocol::TCP, TCP_FIN_WAIT1) => Some((State::FinWait, true)),
        (protocol::TCP, TCP_FIN_WAIT2) => Some((State::CloseWait, true)),
        (protocol::TCP, TCP_CLOSE_WAIT) => Some((State::CloseWait, false)),
        (protocol::TCP, TCP_LAST_ACK) => Some((State::LastAck, false)),
        (protocol::TCP, TCP_CLOSING) => Some((State::LastAck, true)),
        (protocol::TCP, TCP_TIME_WAIT) => Some((State::TimeWait, true)),
        (protocol::UDP, TCP_ESTABLISHED) => Some((State::UdpStream, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_sock_diag::inet::InetResponseHeader;

    use super::*;

    fn socket(state: u8, local: &str, remote: &str) -> InetResponse {
        let (local, remote): (SocketAddr, SocketAddr) =
            (local.parse().unwrap(), remote.parse().unwrap());
        let socket_id = SocketId {
            source_port: local.port(),
            destination_port: remote.port(),
            source_address: local.ip(),
            destination_address: remote.ip(),
            interface_id: 0,
            cookie: [0; 8],
        };
        let header = InetResponseHeader {
            family: 0,
            state,
            timer: None,
            socket_id,
            recv_queue: 0,
            send_queue: 0,
            uid: 0,
            inode: 0,
        };
        InetResponse { header, nlas: Default::default() }
    }

    fn connected(protocol: u8, sockets: &[InetResponse]) -> Vec<(String, String, State, bool)> {
        let columns = |one: Connected| {
            (one.local.to_string(), one.remote.to_string(), one.state, one.is_server)
        };
        read(protocol, sockets).into_iter().map(columns).collect()
    }

    #[test]
    fn a_connection_to_a_listening_port_was_opened_by_the_remote_end() {
        let sockets = [
            socket(TCP_LISTEN, "[::]:22", "[::]:0"),
            socket(TCP_LISTEN, "10.0.0.1:80", "0.0.0.0:0"),
            socket(TCP_ESTABLISHED, "[::ffff:10.0.0.1]:22", "[::ffff:192.0.2.7]:5000"),
            socket(TCP_ESTABLISHED, "10.0.0.1:80", "192.0.2.7:5001"),
            socket(TCP_CLOSE_WAIT, "10.0.0.2:80", "192.0.2.7:5002"),
            socket(2, "10.0.0.1:4000", "192.0.2.7:443"),
        ];
        assert_eq!(
            connected(6, &sockets),
            [
                ("10.0.0.1:22".into(), "192.0.2.7:5000".into(), State::Established, true),
                ("10.0.0.1:80".into(), "192.0.2.7:5001".into(), State::Established, true),
                ("10.0.0.2:80".into(), "192.0.2.7:5002".into(), State::CloseWait, false),
            ]
        );
    }

    #[test]
    fn udp_sockets_are_connected_or_listening() {
        let sockets = [
            socket(7, "0.0.0.0:53", "0.0.0.0:0"),
            socket(TCP_ESTABLISHED, "10.0.0.1:53", "192.0.2.7:5000"),
            socket(TCP_ESTABLISHED, "10.0.0.1:4000", "192.0.2.7:53"),
        ];
        assert_eq!(
            connected(17, &sockets),
            [
                ("10.0.0.1:53".into(), "192.0.2.7:5000".into(), State::UdpStream, true),
                ("10.0.0.1:4000".into(), "192.0.2.7:53".into(), State::UdpStream, false),
            ]
        );
    }
}
