//! Namespaces joined into networks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::output;
use crate::tun::{Kind, Tun};
use crate::wait::{MAX_WAIT, wait_for_quiet, wait_until};
use crate::{Namespace, frame};

/// One end of a link: a device in a namespace, with its addresses (`10.0.0.1/24`, `fd00::1/64`).
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// The namespace of the device.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub device: &'a str,
    /// Addresses with prefix lengths.
    pub addresses: &'a [&'a str],
}

/// Joins two namespaces by a veth pair and waits until both ends are up and idle.
pub fn join(ends: [End<'_>; 2]) {
    /// The kernel takes up to a second until it acts on the carrier of a device whose peer has the same
    /// index (`linkwatch_urgent_event` in net/core/link_watch.c), and the first devices of two new
    /// namespaces do.
    static NEXT_INDEX: AtomicU32 = AtomicU32::new(100);
    let index = || NEXT_INDEX.fetch_add(1, Ordering::Relaxed).to_string();
    let [left, right] = ends;
    output(
        Command::new("ip")
            .args(["link", "add", left.device, "index", &index()])
            .args(["netns", left.namespace.name(), "type", "veth"])
            .args(["peer", "name", right.device, "index", &index()])
            .args(["netns", right.namespace.name()]),
    );
    for End { namespace, device, addresses } in ends {
        for address in addresses {
            // No duplicate address detection: the address is usable at once.
            let nodad = if address.contains(':') { "nodad" } else { "" };
            namespace.ip(&format!("address add {address} dev {device} {nodad}"));
        }
        namespace.ip(&format!("link set {device} up"));
    }
    for end in ends {
        // When the kernel acts on the carrier of a device that has addresses, it reports the multicast
        // groups again.
        wait_until(MAX_WAIT, "the carrier of a new link", || end.has_carrier());
    }
    wait_until_ready(&ends);
}

/// Waits until the kernel has sent the packets that it sends unprompted over new devices.
pub(crate) fn wait_until_ready(ends: &[End<'_>]) {
    for end in ends.iter().filter(|end| end.has_ipv6()) {
        wait_until(MAX_WAIT, "the link-local address of a new link", || end.is_addressed());
        wait_until(MAX_WAIT, "multicast reports of a new link", || end.has_reported());
    }
    wait_until_idle(ends);
}

/// Waits until devices carry no packets.
pub(crate) fn wait_until_idle(ends: &[End<'_>]) {
    wait_for_quiet(Duration::from_millis(100), "a new link to become idle", || {
        ends.iter().copied().map(End::counters).collect::<Vec<_>>()
    });
}

impl End<'_> {
    /// Whether the kernel has acted on the carrier of the device: its operational state (RFC 2863) is up.
    fn has_carrier(self) -> bool {
        let line = self.namespace.ip(&format!("-o link show dev {}", self.device));
        line.contains(" state UP ")
    }

    fn has_ipv6(self) -> bool {
        let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.device);
        let disabled = self.namespace.run(|| fs::read_to_string(path));
        disabled.is_ok_and(|disabled| disabled.trim() != "1")
    }

    /// Whether the device has a link-local address, and none that the kernel is still to complete. It
    /// completes an address in a work item that waits for the lock of all network devices, which other
    /// tests hold for long, and reports the multicast groups once more when it has
    /// (`addrconf_dad_completed` in net/ipv6/addrconf.c).
    fn is_addressed(self) -> bool {
        /// `IFA_F_TENTATIVE` of linux/if_addr.h.
        const TENTATIVE: u32 = 0x40;
        /// The scope of link-local addresses, `IFA_LINK` of net/ipv6.h.
        const LINK: &str = "20";
        let table = self.namespace.run(|| fs::read_to_string("/proc/thread-self/net/if_inet6"));
        let table = table.expect("read the table of IPv6 addresses");
        let mut has_link_local = false;
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_address, _index, _prefix, scope, flags, device] = words[..] else {
                panic!("a line of the table of IPv6 addresses: {line}");
            };
            if device == self.device {
                let flags = u32::from_str_radix(flags, 16).expect("the flags of an address");
                if flags & TENTATIVE != 0 {
                    return false;
                }
                has_link_local |= scope == LINK;
            }
        }
        has_link_local
    }

    /// Whether the host has reported its multicast groups. It does so unprompted some milliseconds
    /// after a device comes up; during a test the report would change its counters.
    fn has_reported(self) -> bool {
        let counters = format!("/proc/thread-self/net/dev_snmp6/{}", self.device);
        let sent = self.namespace.run(|| fs::read_to_string(counters));
        let reported = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some("Icmp6OutMLDv2Reports") && words.next() != Some("0")
        };
        sent.is_ok_and(|sent| sent.lines().any(reported))
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

/// A switch: its ports share one link.
pub struct Switch {
    namespace: Namespace,
    ports: std::cell::Cell<u32>,
}

impl Switch {
    /// A switch without ports.
    #[expect(clippy::new_without_default, reason = "a kernel object, not a value")]
    #[must_use]
    pub fn new() -> Self {
        let namespace = Namespace::new();
        // Without addresses a switch sends nothing.
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        namespace.ip("link add switch type bridge mcast_snooping 0");
        namespace.ip("link set switch up");
        Self { namespace, ports: std::cell::Cell::new(0) }
    }

    /// The host of the switch; its ports are `port0`, `port1` and so on.
    #[must_use]
    pub const fn host(&self) -> &Namespace {
        &self.namespace
    }

    /// Connects a device to a new port.
    pub fn plug(&self, end: End<'_>) {
        let number = self.ports.get();
        self.ports.set(number + 1);
        let port = format!("port{number}");
        join([end, End { namespace: &self.namespace, device: &port, addresses: &[] }]);
        self.namespace.ip(&format!("link set {port} master switch"));
    }
}

/// A server and a client on one link. The protected device is the server's [`Pair::DEVICE`].
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

/// A guest behind a host that routes for it, as a VM or a container is. The protected device is the
/// host's [`Guest::DEVICE`], with the orientation `guest`.
pub struct Guest {
    /// The guest behind the host.
    pub guest: Namespace,
    /// The router between the two.
    pub host: Namespace,
    /// The network beyond the host.
    pub outside: Namespace,
}

impl Guest {
    /// The host's end of the guest's link.
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

/// A host behind two routers, and a server beyond them. The protected device is the host's
/// [`Routed::HOST_DEVICE`], or with the guest orientation the first router's
/// [`Routed::ROUTER_DEVICE`].
pub struct Routed {
    /// The host at the near end.
    pub host: Namespace,
    /// The two routers, the host's first.
    pub routers: [Namespace; 2],
    /// The server at the far end.
    pub far: Namespace,
}

impl Routed {
    /// The host's device.
    pub const HOST_DEVICE: &str = "eth0";
    /// The first router's device toward the host.
    pub const ROUTER_DEVICE: &str = "tap0";
    /// The host's addresses.
    pub const HOST: [IpAddr; 2] = subnet_address(0x81, 1);
    /// The routers' addresses as the host sees them, the first router's first.
    pub const ROUTERS: [[IpAddr; 2]; 2] = [subnet_address(0x81, 2), subnet_address(0x82, 2)];
    /// The far end's addresses.
    pub const FAR: [IpAddr; 2] = subnet_address(0x83, 2);

    /// Four namespaces in a row, with routes; routers send an ICMP error for every packet that they
    /// cannot forward.
    #[expect(clippy::new_without_default, reason = "kernel objects, not a value")]
    #[must_use]
    pub fn new() -> Self {
        let make = Namespace::new;
        let all = Self { host: make(), routers: [make(), make()], far: make() };
        let [near, beyond] = &all.routers;
        for router in [near, beyond] {
            for (key, value) in [
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv6.conf.all.forwarding", "1"),
                ("net.ipv4.icmp_ratelimit", "0"),
                ("net.ipv6.icmp.ratelimit", "0"),
            ] {
                router.sysctl(key, value);
            }
        }
        let link = |subnet: u8, left: (&Namespace, &str), right: (&Namespace, &str)| {
            let addresses = [1, 2].map(|host| {
                [format!("10.{subnet:x}.0.{host}/24"), format!("fd{subnet:x}::{host}/64")]
            });
            let [one, two] = addresses.each_ref().map(|end| end.each_ref().map(String::as_str));
            join([
                End { namespace: left.0, device: left.1, addresses: &one },
                End { namespace: right.0, device: right.1, addresses: &two },
            ]);
        };
        link(0x81, (&all.host, Self::HOST_DEVICE), (near, Self::ROUTER_DEVICE));
        link(0x82, (near, "wan0"), (beyond, "wan0"));
        link(0x83, (beyond, "lan0"), (&all.far, "eth0"));
        for (namespace, subnet, host) in
            [(&all.host, 81, 2), (near, 82, 2), (beyond, 82, 1), (&all.far, 83, 1)]
        {
            namespace.ip(&format!("route add default via 10.{subnet}.0.{host}"));
            namespace.ip(&format!("-6 route add default via fd{subnet}::{host}"));
        }
        all
    }

    /// Sets the MTU of the link between the routers, and flushes the path MTUs that the ends have
    /// cached.
    pub fn set_path_mtu(&self, mtu: u32) {
        for router in &self.routers {
            router.ip(&format!("link set wan0 mtu {mtu}"));
        }
        for end in [&self.host, &self.far] {
            end.ip("-4 route flush cache");
            end.ip("-6 route flush cache");
        }
    }
}

/// An address in 10.X.0.0/24 and one in fdX::/64, where X are the digits of a subnet.
const fn subnet_address(digits: u8, host: u8) -> [IpAddr; 2] {
    let decimal = digits / 16 * 10 + digits % 16;
    let v4 = Ipv4Addr::new(10, decimal, 0, host);
    let v6 = Ipv6Addr::new(0xfd00 + digits as u16, 0, 0, 0, 0, 0, 0, host as u16);
    [IpAddr::V4(v4), IpAddr::V6(v6)]
}

/// A host whose [`Edge::DEVICE`] is a tap: it receives the frames that the test writes.
pub struct Edge {
    /// The protected host.
    pub host: Namespace,
    /// Its device, which has an Ethernet header.
    pub tap: Tun,
}

impl Edge {
    /// The host's device.
    pub const DEVICE: &str = "tap0";
    /// The host's addresses.
    pub const INSIDE: [IpAddr; 2] = subnet_address(0x90, 1);
    /// Addresses on its link that it has a neighbour entry for.
    pub const OUTSIDE: [IpAddr; 2] = subnet_address(0x90, 2);

    /// A host with one device.
    #[expect(clippy::new_without_default, reason = "kernel objects, not a value")]
    #[must_use]
    pub fn new() -> Self {
        let host = Namespace::new();
        let addresses = ["10.90.0.1/24", "fd90::1/64"];
        let end = End { namespace: &host, device: Self::DEVICE, addresses: &addresses };
        let tap = Tun::new(end, Kind::Tap);
        host.ip(&format!("link set {} address 02:00:00:00:00:01", Self::DEVICE));
        for address in Self::OUTSIDE {
            let to = format!("{address} lladdr 02:00:00:00:00:02 dev {}", Self::DEVICE);
            host.ip(&format!("neighbour replace {to} nud permanent"));
        }
        Self { host, tap }
    }

    /// Lets the host receive an IP packet.
    pub fn send(&self, packet: &[u8]) {
        self.tap.send(&frame::ethernet(packet));
    }

    /// Waits for the host to send an IP packet that matches.
    #[must_use]
    pub fn receive(&self, matches: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let is_ip = |sent: &[u8]| matches!(sent[12..14], [0x08, 0x00] | [0x86, 0xdd]);
        self.tap.receive(|sent| is_ip(sent) && matches(&sent[14..])).split_off(14)
    }
}

/// The addresses with one port.
#[must_use]
pub fn at(addresses: [IpAddr; 2], port: u16) -> [SocketAddr; 2] {
    addresses.map(|address| SocketAddr::new(address, port))
}
