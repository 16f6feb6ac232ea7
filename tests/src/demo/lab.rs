//! The network of the demo: hosts on one link, one of them with a container behind it.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use super::screen::Screen;
use crate::Namespace;
use crate::network::{End, Switch, join};

/// A host with an address of each family, from the documentation ranges.
pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) addresses: [IpAddr; 2],
    pub(super) namespace: Namespace,
    /// The addresses with prefix lengths.
    networks: [&'static str; 2],
}

/// The hosts of both parts.
pub(super) struct Lab {
    /// Protected on its own interface.
    pub(super) server: Host,
    /// Protects the container's link.
    pub(super) host: Host,
    /// The container behind the host.
    pub(super) container: Host,
    /// A client in the networks of the rules.
    pub(super) office: Host,
    /// A client outside of these networks.
    pub(super) outside: Host,
    switch: Switch,
}

/// The office's networks, which the rules name.
pub(super) const OFFICE: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];

impl Lab {
    /// Creates the hosts and joins them.
    pub(super) fn new() -> Self {
        let lab = Self {
            server: Host::new("server", ["192.0.2.10/25", "2001:db8::10/64"]),
            host: Host::new("host", ["192.0.2.20/25", "2001:db8::20/64"]),
            container: Host::new("container", ["192.0.2.130/25", "2001:db8:c::130/64"]),
            office: Host::new("office", ["198.51.100.7/24", "2001:db8:51::7/64"]),
            outside: Host::new("outside", ["203.0.113.9/24", "2001:db8:71::9/64"]),
            switch: Switch::new(),
        };
        for host in [&lab.server, &lab.host, &lab.office, &lab.outside] {
            lab.switch.plug(host.end("eth0"));
            // One link carries all networks, so that no router is needed for them.
            host.namespace.ip("route add default dev eth0");
            host.namespace.ip("-6 route add default dev eth0");
        }
        lab.connect_container();
        lab
    }

    /// The host is the container's router, as with Docker.
    fn connect_container(&self) {
        let Self { host, container, .. } = self;
        host.namespace.sysctl("net.ipv4.ip_forward", "1");
        host.namespace.sysctl("net.ipv6.conf.all.forwarding", "1");
        join([
            container.end("eth0"),
            End {
                namespace: &host.namespace,
                device: "veth0",
                addresses: &["192.0.2.129/25", "2001:db8:c::129/64"],
            },
        ]);
        container.namespace.ip("route add default via 192.0.2.129");
        container.namespace.ip("-6 route add default via 2001:db8:c::129");
        let [v4, v6] = host.addresses;
        for neighbour in [&self.office, &self.outside] {
            neighbour.namespace.ip(&format!("route add 192.0.2.128/25 via {v4} dev eth0 onlink"));
            neighbour
                .namespace
                .ip(&format!("-6 route add 2001:db8:c::/64 via {v6} dev eth0 onlink"));
        }
    }

    /// Prints the hosts and their roles.
    pub(super) fn describe(&self, screen: &mut Screen) -> Result<()> {
        let roles = [
            (&self.server, "protected in part 1"),
            (&self.container, "protected in part 2, behind its host"),
            (&self.office, "a client in the networks of the rules"),
            (&self.outside, "a client outside of these networks"),
        ];
        screen.print("")?;
        for (Host { name, addresses: [v4, v6], .. }, role) in roles {
            let (v4, v6) = (v4.to_string(), v6.to_string());
            screen.print(&format!("   {name:<11}{v4:<15}{v6:<18}{role}"))?;
        }
        Ok(())
    }
}

impl Host {
    fn new(name: &'static str, networks: [&'static str; 2]) -> Self {
        let address = |network: &str| -> IpAddr {
            network.parse::<IpNet>().expect("an address in this file").addr()
        };
        Self { name, addresses: networks.map(address), namespace: Namespace::new(), networks }
    }

    fn end<'a>(&'a self, device: &'a str) -> End<'a> {
        End { namespace: &self.namespace, device, addresses: &self.networks }
    }
}
