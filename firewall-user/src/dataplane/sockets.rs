//! The sockets of a network namespace, as the kernel's socket tables have them (sock_diag(7)).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use firewall_ebpf::interface::State;
use firewall_ebpf::parse::protocol;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2,
    TCP_LAST_ACK, TCP_LISTEN, TCP_TIME_WAIT,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::dataplane::error::Result;
use crate::dataplane::netlink::dump;

/// A socket that is connected to another end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connected {
    pub(super) protocol: u8,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The device that it is bound to; 0 if to none.
    pub(super) device: u32,
    pub(super) state: State,
    /// The other end asked for the connection.
    pub(super) is_served: bool,
    /// This end began to close it.
    pub(super) is_finisher: bool,
}

/// Every connected TCP and UDP socket of this thread's network namespace.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn connected() -> Result<Vec<Connected>> {
    let mut all = Vec::new();
    for protocol in [protocol::TCP, protocol::UDP] {
        let mut sockets = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
            let question = InetRequest {
                family,
                protocol,
                extensions: ExtensionFlags::empty(),
                states: StateFlags::all(),
                socket_id: id,
            };
            dump(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(question), |answer| {
                if let SockDiagMessage::InetResponse(socket) = answer {
                    sockets.push(*socket);
                }
            })?;
        }
        all.extend(read(protocol, &sockets));
    }
    Ok(all)
}

/// The connected ones among the sockets of a protocol.
fn read(protocol: u8, sockets: &[InetResponse]) -> Vec<Connected> {
    let waiting: HashSet<(IpAddr, u16)> =
        sockets.iter().filter(|one| waits(protocol, one)).map(local).collect();
    let anywhere: HashSet<u16> = waiting
        .iter()
        .filter(|(address, _)| address.is_unspecified())
        .map(|(_, port)| *port)
        .collect();
    let is_served = |(address, port): (IpAddr, u16)| {
        anywhere.contains(&port) || waiting.contains(&(address, port))
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
            is_served: is_served((address, port)),
            is_finisher,
        })
    });
    connected.collect()
}

fn local(socket: &InetResponse) -> (IpAddr, u16) {
    let id = &socket.header.socket_id;
    (id.source_address.to_canonical(), id.source_port)
}

/// Whether a socket waits for others to begin.
fn waits(protocol: u8, socket: &InetResponse) -> bool {
    match protocol {
        protocol::TCP => socket.header.state == TCP_LISTEN,
        _ => socket.header.socket_id.destination_port == 0,
    }
}

/// What the state of an open connection's socket means seen from the middle, and whether its own end
/// began to close it. A handshake is not open yet: its SYN comes again, and is judged.
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

    fn seen(protocol: u8, sockets: &[InetResponse]) -> Vec<(String, String, State, bool)> {
        let told = |one: Connected| {
            (one.local.to_string(), one.remote.to_string(), one.state, one.is_served)
        };
        read(protocol, sockets).into_iter().map(told).collect()
    }

    #[test]
    fn who_listens_was_asked() {
        let sockets = [
            socket(TCP_LISTEN, "[::]:22", "[::]:0"),
            socket(TCP_LISTEN, "10.0.0.1:80", "0.0.0.0:0"),
            socket(TCP_ESTABLISHED, "[::ffff:10.0.0.1]:22", "[::ffff:192.0.2.7]:5000"),
            socket(TCP_ESTABLISHED, "10.0.0.1:80", "192.0.2.7:5001"),
            socket(TCP_CLOSE_WAIT, "10.0.0.2:80", "192.0.2.7:5002"),
            socket(2, "10.0.0.1:4000", "192.0.2.7:443"),
        ];
        assert_eq!(
            seen(6, &sockets),
            [
                ("10.0.0.1:22".into(), "192.0.2.7:5000".into(), State::Established, true),
                ("10.0.0.1:80".into(), "192.0.2.7:5001".into(), State::Established, true),
                ("10.0.0.2:80".into(), "192.0.2.7:5002".into(), State::CloseWait, false),
            ]
        );
    }

    #[test]
    fn udp_is_connected_or_waits() {
        let sockets = [
            socket(7, "0.0.0.0:53", "0.0.0.0:0"),
            socket(TCP_ESTABLISHED, "10.0.0.1:53", "192.0.2.7:5000"),
            socket(TCP_ESTABLISHED, "10.0.0.1:4000", "192.0.2.7:53"),
        ];
        assert_eq!(
            seen(17, &sockets),
            [
                ("10.0.0.1:53".into(), "192.0.2.7:5000".into(), State::UdpStream, true),
                ("10.0.0.1:4000".into(), "192.0.2.7:53".into(), State::UdpStream, false),
            ]
        );
    }
}
