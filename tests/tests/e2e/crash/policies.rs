//! Asking which policy is in force, by real packets.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use firewall_ebpf::event::Event;
use firewall_ebpf::reason::{Reason, Verdict};
use firewall_user::dataplane::Pins;
use firewall_user::dataplane::maps::Maps;
use secgroup_tests::network::at;
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup};

/// What was answered: whether it was asked from outside, and the end that was asked.
pub(crate) type Met = BTreeSet<(bool, SocketAddr)>;

/// Ports that are asked from outside, and from inside.
const PORTS: [&[u16]; 2] = [&[2001, 2002, 2003], &[1001, 1002, 1003, 1004, 1005]];

/// Servers at either end, and who asks them.
pub(crate) struct Probe<'a> {
    net: &'a Pair,
    pins: Pins,
    echoes: Vec<(bool, UdpEcho)>,
    next_port: Cell<u16>,
}

impl<'a> Probe<'a> {
    /// Servers on every port.
    pub(crate) fn new(net: &'a Pair, secgroup: &Secgroup<'_>) -> Self {
        let serve = |inward: bool| {
            let (namespace, addresses) =
                if inward { (&net.server, Pair::SERVER) } else { (&net.client, Pair::CLIENT) };
            let ends = PORTS[usize::from(inward)].iter().flat_map(move |port| at(addresses, *port));
            ends.map(move |end| (inward, UdpEcho::start(namespace, end)))
        };
        let echoes = [true, false].into_iter().flat_map(serve).collect();
        Self { net, pins: Pins::new(secgroup.pin_dir()), echoes, next_port: Cell::new(10_000) }
    }

    /// The ends that these ports are, as if they had answered.
    pub(crate) fn of(&self, inward: &[u16], outward: &[u16]) -> Met {
        let ends = self.echoes.iter().map(|(inward, echo)| (*inward, echo.address()));
        ends.filter(|(is, end)| if *is { inward } else { outward }.contains(&end.port())).collect()
    }

    /// Every end.
    pub(crate) fn all(&self) -> Met {
        self.of(PORTS[1], PORTS[0])
    }

    /// Asks every end once, from a port of its own, and waits until each question is answered or
    /// counted as dropped: no clock decides.
    pub(crate) fn ask(&self) -> Met {
        let before = self.dropped();
        let ask = |(inward, echo): &(bool, UdpEcho)| {
            let end = echo.address();
            let (from, sources) = if *inward {
                (&self.net.client, Pair::CLIENT)
            } else {
                (&self.net.server, Pair::SERVER)
            };
            // Never one that was used before: it would find a flow of an earlier policy.
            let source = at(sources, self.next_port.replace(self.next_port.get() + 1));
            let source = source[usize::from(end.is_ipv6())];
            let socket = udp::bind(from, source);
            socket.connect(end).unwrap();
            socket.set_nonblocking(true).unwrap();
            // A program at this end that drops it may say so.
            let _ = socket.send(b"anybody there?");
            (*inward, echo.address(), socket)
        };
        let mut open: Vec<(bool, SocketAddr, UdpSocket)> = self.echoes.iter().map(ask).collect();
        let mut met = Met::new();
        wait_until(MAX_WAIT, "every question to be answered or dropped", || {
            open.retain(|(inward, end, socket)| {
                let answered = socket.recv(&mut [0; 32]).is_ok();
                if answered {
                    met.insert((*inward, *end));
                }
                !answered
            });
            usize::try_from(self.dropped() - before).unwrap() == open.len()
        });
        met
    }

    /// Packets that were dropped, of all slots: counted as dropped and not spared.
    fn dropped(&self) -> u64 {
        // None are made yet, or not all of them: nothing can have been dropped by them.
        let Ok(maps) = Maps::open(&self.pins) else { return 0 };
        let slots = 0..u16::try_from(maps.sizes.interfaces).unwrap();
        let of = |slot| {
            let counters = maps.counters(slot).unwrap();
            let drops = counters.iter().filter(|((_, reason), _)| is_drop(*reason));
            let drops: u64 = drops.map(|(_, counter)| counter.packets).sum();
            drops - maps.events(slot).unwrap()[&Event::Spared]
        };
        slots.map(of).sum()
    }
}

fn is_drop(reason: Reason) -> bool {
    reason.verdict() == Verdict::Drop
}
