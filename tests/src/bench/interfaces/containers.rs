//! A host that routes for many containers, each behind its own device of the host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::network::{End, join};
use crate::udp::{self, UdpEcho};
use crate::wait::{MAX_WAIT, wait_until};
use crate::{Namespace, Secgroup, interrupt};

/// Containers and interfaces: the default capacity of the maps.
pub(super) const COUNT: usize = 64;
/// Long enough for the reply to a datagram that passes. The verdict is read from a counter.
const REPLY_TIMEOUT: Duration = Duration::from_millis(50);

/// The host and its containers.
pub(super) struct Containers {
    /// The namespace of the devices.
    pub(super) host: Namespace,
    inside: Vec<Namespace>,
}

impl Containers {
    /// Creates all namespaces and links.
    ///
    /// # Errors
    /// A signal was received.
    pub(super) fn new() -> Result<Self> {
        let mut all = Self { host: Namespace::new(), inside: Vec::new() };
        all.host.sysctl("net.ipv4.ip_forward", "1");
        for number in 0..COUNT {
            interrupt::check()?;
            eprint!("\rset up {} of {COUNT} interfaces", number + 1);
            let inside = Namespace::new();
            let [near, far] =
                [host(number), address(number)].map(|address| format!("{address}/24"));
            join([
                End { namespace: &all.host, device: &device(number), addresses: &[&near] },
                End { namespace: &inside, device: "eth0", addresses: &[&far] },
            ]);
            inside.ip(&format!("route add default via {}", host(number)));
            all.inside.push(inside);
        }
        eprintln!();
        Ok(all)
    }

    /// Fails unless a datagram to a container's port and its reply pass.
    pub(super) fn require_passed(&self, from: Sender, number: usize, port: u16) -> Result<()> {
        let to = SocketAddr::new(address(number), port);
        let _echo = UdpEcho::start(&self.inside[number], to);
        let is_passed = udp::is_echoed(&udp::connect(self.namespace(from), to), MAX_WAIT);
        ensure!(
            is_passed,
            "a datagram of {from:?} to port {port} of {} is dropped",
            device(number)
        );
        Ok(())
    }

    /// Fails unless a container's interface drops a datagram to a port, and counts it.
    pub(super) fn require_dropped(
        &self,
        secgroup: &Secgroup<'_>,
        from: Sender,
        number: usize,
        port: u16,
    ) -> Result<()> {
        let device = device(number);
        let dropped = || secgroup.counters().packets(&device, "ingress", "no-rule");
        let before = dropped();
        let to = SocketAddr::new(address(number), port);
        let _echo = UdpEcho::start(&self.inside[number], to);
        let socket = udp::connect(self.namespace(from), to);
        ensure!(
            !udp::is_echoed(&socket, REPLY_TIMEOUT),
            "a datagram of {from:?} to port {port} of {device} passes"
        );
        wait_until(MAX_WAIT, "a dropped packet to be counted", || dropped() > before);
        Ok(())
    }

    fn namespace(&self, from: Sender) -> &Namespace {
        match from {
            Sender::Host => &self.host,
            Sender::Container(number) => &self.inside[number],
        }
    }
}

/// The sender of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sender {
    /// The host.
    Host,
    /// One of its containers.
    Container(usize),
}

/// The host's device for a container.
pub(super) fn device(number: usize) -> String {
    format!("tap{number}")
}

/// A container's address.
pub(super) fn address(number: usize) -> IpAddr {
    of_link(number, 2)
}

/// The host's address on the link to a container.
fn host(number: usize) -> IpAddr {
    of_link(number, 1)
}

fn of_link(number: usize, end: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 80, u8::try_from(number).unwrap_or(u8::MAX), end))
}
