//! A host that routes for many containers, each with a device of the host's to itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::network::{End, join};
use crate::udp::{self, UdpEcho};
use crate::wait::{MAX_WAIT, wait_until};
use crate::{Namespace, Secgroup, interrupt};

/// Containers, and interfaces: as many as the maps have room for unless the configuration says
/// more.
pub(super) const COUNT: usize = 64;
/// Long enough for a datagram to come back that nothing holds up; it decides no verdict.
const MOMENT: Duration = Duration::from_millis(50);

/// The host and its containers.
pub(super) struct Containers {
    /// What has the devices.
    pub(super) host: Namespace,
    inside: Vec<Namespace>,
}

impl Containers {
    /// Makes them all.
    ///
    /// # Errors
    /// A signal came.
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

    /// Fails unless someone gets through to a container at a port.
    pub(super) fn require_open(&self, who: Who, number: usize, port: u16) -> Result<()> {
        let to = SocketAddr::new(address(number), port);
        let _echo = UdpEcho::start(&self.inside[number], to);
        let is_open = udp::is_echoed(&udp::connect(self.of(who), to), MAX_WAIT);
        ensure!(is_open, "{who:?} does not get through to {} at {port}", device(number));
        Ok(())
    }

    /// Fails unless a container's interface refuses someone at a port, and counts it.
    pub(super) fn require_shut(
        &self,
        secgroup: &Secgroup<'_>,
        who: Who,
        number: usize,
        port: u16,
    ) -> Result<()> {
        let device = device(number);
        let refused = || secgroup.counters().packets(&device, "ingress", "no-rule");
        let before = refused();
        let to = SocketAddr::new(address(number), port);
        let _echo = UdpEcho::start(&self.inside[number], to);
        let socket = udp::connect(self.of(who), to);
        ensure!(!udp::is_echoed(&socket, MOMENT), "{who:?} gets through to {device} at {port}");
        wait_until(MAX_WAIT, "a refused packet to be counted", || refused() > before);
        Ok(())
    }

    fn of(&self, who: Who) -> &Namespace {
        match who {
            Who::Host => &self.host,
            Who::Container(number) => &self.inside[number],
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
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

/// The host's address on the cable of a container.
fn host(number: usize) -> IpAddr {
    of_link(number, 1)
}

fn of_link(number: usize, end: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 80, u8::try_from(number).unwrap_or(u8::MAX), end))
}
