//! Finds out with real packets which policy is active.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_user::dataplane::Pins;
use firewall_user::dataplane::tables::maps::Maps;
use secgroup_tests::network::at;
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup};

/// The ends that replied, each with whether the request came from outside.
pub(crate) type Reachable = BTreeSet<(bool, SocketAddr)>;

/// Ports probed from inside, and from outside.
const PORTS: [&[u16]; 2] = [&[2001, 2002, 2003], &[1001, 1002, 1003, 1004, 1005]];

/// Servers on both hosts, and the clients that probe them.
pub(crate) struct Probe<'a> {
    net: &'a Pair,
    pins: Pins,
    servers: Vec<(bool, UdpEcho)>,
    next_port: Cell<u16>,
}

impl<'a> Probe<'a> {
    /// Starts a server on every port.
    pub(crate) fn new(net: &'a Pair, secgroup: &Secgroup<'_>) -> Self {
        let start_servers = |inbound: bool| {
            let (namespace, addresses) =
                if inbound { (&net.server, Pair::SERVER) } else { (&net.client, Pair::CLIENT) };
            let ends =
                PORTS[usize::from(inbound)].iter().flat_map(move |port| at(addresses, *port));
            ends.map(move |end| (inbound, UdpEcho::start(namespace, end)))
        };
        let servers = [true, false].into_iter().flat_map(start_servers).collect();
        Self { net, pins: Pins::new(secgroup.pin_dir()), servers, next_port: Cell::new(10_000) }
    }

    /// The ends with these ports, as if they had replied.
    pub(crate) fn expected(&self, inbound: &[u16], outbound: &[u16]) -> Reachable {
        let ends = self.servers.iter().map(|(inbound, server)| (*inbound, server.address()));
        ends.filter(|(is_inbound, end)| {
            if *is_inbound { inbound } else { outbound }.contains(&end.port())
        })
        .collect()
    }

    /// Every end.
    pub(crate) fn all(&self) -> Reachable {
        self.expected(PORTS[1], PORTS[0])
    }

    /// Sends one request to every end, each from its own port, and waits until each request has a
    /// reply or is counted as dropped. No timeout decides.
    pub(crate) fn reachable(&self) -> Reachable {
        let before = self.dropped();
        let send_request = |(inbound, server): &(bool, UdpEcho)| {
            let end = server.address();
            let (from, sources) = if *inbound {
                (&self.net.client, Pair::CLIENT)
            } else {
                (&self.net.server, Pair::SERVER)
            };
            // A fresh port, because a used one could match a flow of an earlier policy.
            let source = at(sources, self.next_port.replace(self.next_port.get() + 1));
            let source = source[usize::from(end.is_ipv6())];
            let socket = udp::bind(from, source);
            socket.connect(end).unwrap();
            socket.set_nonblocking(true).unwrap();
            // The send fails if a program on this host drops the packet.
            let _ = socket.send(b"request");
            (*inbound, server.address(), socket)
        };
        let mut open: Vec<(bool, SocketAddr, UdpSocket)> =
            self.servers.iter().map(send_request).collect();
        let mut reachable = Reachable::new();
        wait_until(MAX_WAIT, "every request to be answered or dropped", || {
            open.retain(|(inbound, end, socket)| {
                let answered = socket.recv(&mut [0; 32]).is_ok();
                if answered {
                    reachable.insert((*inbound, *end));
                }
                !answered
            });
            usize::try_from(self.dropped() - before).unwrap() == open.len()
        });
        reachable
    }

    /// Dropped packets of all slots: counted as dropped and not passed in audit mode.
    fn dropped(&self) -> u64 {
        // Without all of the maps no program drops anything.
        let Ok(maps) = Maps::open(&self.pins) else { return 0 };
        let slots = 0..u16::try_from(maps.sizes.interfaces).unwrap();
        let dropped_in_slot = |slot| {
            // First: a packet that arrives in between is then counted as dropped alone.
            let passed = maps.events(slot).unwrap()[&Event::AuditPassed];
            let counters = maps.counters(slot).unwrap();
            let drops = counters.iter().filter(|((_, reason), _)| is_drop(*reason));
            let drops: u64 = drops.map(|(_, counter)| counter.packets).sum();
            drops - passed
        };
        slots.map(dropped_in_slot).sum()
    }
}

fn is_drop(reason: Reason) -> bool {
    reason.verdict() == Verdict::Drop
}
