//! Namespaces joined into networks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::Namespace;
use crate::process::output;
use crate::wait::{PATIENCE, wait_for_quiet, wait_until};

/// One end of a cable: a device in a namespace, with its addresses (`10.0.0.1/24`, `fd00::1/64`).
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Where the device is.
    pub namespace: &'a Namespace,
    /// What it is called there.
    pub device: &'a str,
    /// Addresses with prefix lengths.
    pub addresses: &'a [&'a str],
}

/// Joins two namespaces by a veth pair and waits until both ends are up and silent.
pub fn join(ends: [End<'_>; 2]) {
    let [left, right] = ends;
    output(
        Command::new("ip")
            .args(["link", "add", left.device, "netns", left.namespace.name()])
            .args(["type", "veth", "peer", "name", right.device, "netns", right.namespace.name()]),
    );
    for End { namespace, device, addresses } in ends {
        for address in addresses {
            // No duplicate address detection: the address is usable at once.
            let nodad = if address.contains(':') { "nodad" } else { "" };
            namespace.ip(&format!("address add {address} dev {device} {nodad}"));
        }
        namespace.ip(&format!("link set {device} up"));
    }
    settle(&ends);
}

/// Waits until new devices have said what hosts say by themselves.
pub(crate) fn settle(ends: &[End<'_>]) {
    for end in ends {
        wait_until(PATIENCE, "a new link to make itself known", || end.has_reported());
    }
    wait_for_silence(ends);
}

/// Waits until devices carry nothing.
pub(crate) fn wait_for_silence(ends: &[End<'_>]) {
    wait_for_quiet(Duration::from_millis(100), "a new link to fall silent", || {
        ends.iter().copied().map(End::counters).collect::<Vec<_>>()
    });
}

impl End<'_> {
    /// Whether the host has reported its multicast groups, which is what it says by itself when a
    /// device comes up, some milliseconds later; later still it would surprise a test.
    fn has_reported(self) -> bool {
        let (disabled, sent) = self.namespace.run(|| {
            let base = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.device);
            let counters = format!("/proc/thread-self/net/dev_snmp6/{}", self.device);
            (fs::read_to_string(base), fs::read_to_string(counters))
        });
        let reported = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some("Icmp6OutMLDv2Reports") && words.next() != Some("0")
        };
        disabled.is_ok_and(|disabled| disabled.trim() == "1")
            || sent.is_ok_and(|sent| sent.lines().any(reported))
    }

    /// The device's line in the kernel's table, which changes with every packet.
    fn counters(self) -> String {
        let Self { namespace, device, .. } = self;
        let table = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"));
        let table = table.expect("read the table of network devices");
        let line = table.lines().find(|line| line.trim_start().starts_with(&format!("{device}:")));
        line.unwrap_or_else(|| panic!("no device {device} in {}", namespace.name())).to_owned()
    }
}

/// A switch: what is plugged in shares one link.
pub struct Switch {
    namespace: Namespace,
    ports: std::cell::Cell<u32>,
}

impl Switch {
    /// A switch without cables.
    #[expect(clippy::new_without_default, reason = "a kernel object, not a value")]
    #[must_use]
    pub fn new() -> Self {
        let namespace = Namespace::new();
        // A switch has no address of its own to talk from.
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        namespace.ip("link add switch type bridge mcast_snooping 0");
        namespace.ip("link set switch up");
        Self { namespace, ports: std::cell::Cell::new(0) }
    }

    /// Plugs a device in.
    pub fn plug(&self, end: End<'_>) {
        let number = self.ports.get();
        self.ports.set(number + 1);
        let port = format!("port{number}");
        join([end, End { namespace: &self.namespace, device: &port, addresses: &[] }]);
        self.namespace.ip(&format!("link set {port} master switch"));
    }
}

/// A server and a client on one link: the server's [`Pair::DEVICE`] is the one to protect.
pub struct Pair {
    /// The protected host.
    pub server: Namespace,
    /// The other end.
    pub client: Namespace,
}

impl Pair {
    /// The device at either end.
    pub const DEVICE: &str = "eth0";
    /// The server's addresses.
    pub const SERVER: [IpAddr; 2] = pair_address(1);
    /// The client's addresses.
    pub const CLIENT: [IpAddr; 2] = pair_address(2);

    /// Two namespaces, joined.
    #[expect(clippy::new_without_default, reason = "kernel objects, not a value")]
    #[must_use]
    pub fn new() -> Self {
        let pair = Self { server: Namespace::new(), client: Namespace::new() };
        join(pair.ends());
        pair
    }

    pub(crate) fn ends(&self) -> [End<'_>; 2] {
        let Self { server, client } = self;
        let device = Self::DEVICE;
        [
            End { namespace: server, device, addresses: &["10.77.0.1/24", "fd77::1/64"] },
            End { namespace: client, device, addresses: &["10.77.0.2/24", "fd77::2/64"] },
        ]
    }
}

const fn pair_address(host: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(10, 77, 0, host);
    let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host as u16);
    [IpAddr::V4(v4), IpAddr::V6(v6)]
}

/// A guest behind a host that routes for it, as a VM or a container is: the host's
/// [`Guest::DEVICE`] is the one to protect, with the orientation `guest`.
pub struct Guest {
    /// Behind the host.
    pub guest: Namespace,
    /// Between.
    pub host: Namespace,
    /// Beyond the host.
    pub outside: Namespace,
}

impl Guest {
    /// The host's end of the guest's cable.
    pub const DEVICE: &str = "tap0";
    /// The guest's addresses.
    pub const GUEST: [IpAddr; 2] = guest_address(78);
    /// The outside's addresses.
    pub const OUTSIDE: [IpAddr; 2] = guest_address(79);

    /// Three namespaces in a row, with routes.
    #[expect(clippy::new_without_default, reason = "kernel objects, not a value")]
    #[must_use]
    pub fn new() -> Self {
        let all =
            Self { guest: Namespace::new(), host: Namespace::new(), outside: Namespace::new() };
        all.host.sysctl("net.ipv4.ip_forward", "1");
        all.host.sysctl("net.ipv6.conf.all.forwarding", "1");
        for (end, device, subnet) in [(&all.guest, Self::DEVICE, 78), (&all.outside, "wan0", 79)] {
            let far = [format!("10.{subnet}.0.2/24"), format!("fd{subnet}::2/64")];
            let near = [format!("10.{subnet}.0.1/24"), format!("fd{subnet}::1/64")];
            let addresses = |list| <[String; 2]>::each_ref(list).map(String::as_str);
            join([
                End { namespace: end, device: "eth0", addresses: &addresses(&far) },
                End { namespace: &all.host, device, addresses: &addresses(&near) },
            ]);
            end.ip(&format!("route add default via 10.{subnet}.0.1"));
            end.ip(&format!("-6 route add default via fd{subnet}::1"));
        }
        all
    }
}

const fn guest_address(subnet: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(10, subnet, 0, 2);
    // The subnet's decimal digits, read as hexadecimal ones.
    let digits = 0xfd00 + (subnet as u16 / 10) * 16 + subnet as u16 % 10;
    [IpAddr::V4(v4), IpAddr::V6(Ipv6Addr::new(digits, 0, 0, 0, 0, 0, 0, 2))]
}

/// The addresses with one port, as servers and clients take them.
#[must_use]
pub fn at(addresses: [IpAddr; 2], port: u16) -> [SocketAddr; 2] {
    addresses.map(|address| SocketAddr::new(address, port))
}
