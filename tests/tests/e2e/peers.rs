//! Rules whose peer is a group: it stands for the addresses of the interfaces in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use firewall_ebpf::policy::{Active, Half};
use firewall_user::dataplane::Pins;
use firewall_user::dataplane::maps::Maps;
use firewall_user::store::Store;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Guest, Pair, Process, Secgroup};
use serde_json::json;

/// Further addresses of the client, which move between a member's device and another.
const MOVING: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3)),
];

/// Shorter than the five seconds after which `serve` looks without having been told.
const AT_ONCE: Duration = Duration::from_secs(3);

const SILENCE: Duration = Duration::from_millis(200);

#[test]
fn only_while_it_is_attached_is_an_interface_a_member() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let member = format!("eth0 --netns {}", net.client.name());
    secgroup.ok("group create db --description x");
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add db ingress --protocol tcp --port 5432 --group web");
    secgroup.ok("attach eth0 --group db");
    let ends = at(Pair::SERVER, 5432);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(tcp::none_reaches(&net.client, &ends));

    secgroup.ok(&format!("attach {member} --group web"));
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"hello").unwrap();
    }
    secgroup.ok(&format!("attach {member} --group db"));
    assert!(tcp::none_reaches(&net.client, &ends), "another group's member");
    secgroup.ok(&format!("attach {member} --group db --group web"));
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"hello").unwrap();
    }
    secgroup.ok(&format!("detach {member}"));
    assert!(tcp::none_reaches(&net.client, &ends), "a member no more");
}

#[test]
fn members_of_a_group_that_names_itself_reach_each_other() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create mesh --description x");
    secgroup.ok("rule add mesh ingress --protocol tcp --port 80 --group mesh");
    secgroup.ok("attach eth0 --group mesh");
    secgroup.ok(&format!("attach eth0 --netns {} --group mesh", net.client.name()));
    let there = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
    let back = at(Pair::CLIENT, 80).map(|end| TcpServer::echo(&net.client, end));
    for (there, back) in there.iter().zip(&back) {
        tcp::connect(&net.client, there.address()).unwrap();
        tcp::connect(&net.server, back.address()).unwrap();
    }
}

#[test]
fn a_guest_is_a_member_by_its_declared_addresses() {
    let net = Guest::new();
    let secgroup = Secgroup::inside(&net.host);
    let tap = format!("{} --group vm --orientation guest", Guest::DEVICE);
    secgroup.ok("group create vm --description x");
    secgroup.ok("group create db --description x");
    secgroup.ok("rule add db ingress --protocol tcp --port 5432 --group vm");
    secgroup.ok(&format!("attach eth0 --netns {} --group db", net.outside.name()));
    secgroup.ok(&format!("attach {tap}"));
    let ends = at(Guest::OUTSIDE, 5432);
    let _servers = ends.map(|end| TcpServer::echo(&net.outside, end));
    assert!(tcp::none_reaches(&net.guest, &ends), "the tap's own addresses are the host's");

    let [v4, v6] = Guest::GUEST;
    secgroup.ok(&format!("attach {tap} --address {v4} --address {v6}"));
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.guest, end).unwrap(), b"hello").unwrap();
    }
}

#[test]
fn serve_follows_the_addresses_of_its_own_namespace_at_once() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    let moving = Moving::start(&net, &secgroup);
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    moving.to_the_member();
    wait_until(AT_ONCE, "the addresses to be let in", || moving.reach() == [true; 2]);
    moving.to_another_device();
    wait_until(AT_ONCE, "the addresses to be kept out", || moving.reach() == [false; 2]);
}

#[test]
fn serve_follows_the_addresses_of_other_namespaces() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let moving = Moving::start(&net, &secgroup);
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    moving.to_the_member();
    wait_until(MAX_WAIT, "the addresses to be let in", || moving.reach() == [true; 2]);
}

#[test]
fn without_serve_the_next_command_follows() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let moving = Moving::start(&net, &secgroup);
    moving.to_the_member();
    assert_eq!(moving.reach(), [false; 2], "nobody has looked");
    secgroup.ok("reconcile");
    assert_eq!(moving.reach(), [true; 2]);
    moving.to_another_device();
    assert_eq!(moving.reach(), [true; 2], "nobody has looked");
    secgroup.ok("group create unrelated --description x");
    assert_eq!(moving.reach(), [false; 2]);
}

/// Verdicts before and after, and where the policy is: what differs goes into the other half of the
/// tables, also if a command makes the change that knows of no address.
#[test]
fn an_address_of_a_member_changes_what_it_changes() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let moving = Moving::start(&net, &secgroup);
    let first = moving.in_force(&secgroup);

    moving.one_to("eth0");
    assert_eq!(moving.in_force(&secgroup), first, "nobody has looked");
    moving.one_is_refused(&secgroup);
    secgroup.ok("group create unrelated --description x");
    let second = moving.in_force(&secgroup);
    let tables = first.tables();
    assert_eq!(second.tables(), Half { half: 1 - tables.half, ..tables });
    assert_ne!(second.generation(), first.generation(), "another policy");
    moving.one_is_admitted(&secgroup);

    moving.one_to("lo");
    secgroup.ok("group create another --description x");
    assert_eq!(moving.in_force(&secgroup), first, "the same policy, where it was");
}

#[test]
fn serve_writes_of_an_address_what_it_changes() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    let moving = Moving::start(&net, &secgroup);
    let tables = moving.in_force(&secgroup).tables();
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    moving.one_to("eth0");
    wait_until(AT_ONCE, "the address to be let in", || moving.reach() == [true, false]);
    assert_eq!(moving.in_force(&secgroup).tables(), Half { half: 1 - tables.half, ..tables });
    moving.one_is_admitted(&secgroup);
}

/// What is noted of addresses is not believed without the kernel's own record.
#[test]
fn what_is_noted_wrongly_of_addresses_costs_a_rewrite() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let moving = Moving::start(&net, &secgroup);
    let tables = moving.in_force(&secgroup).tables();
    moving.one_to("eth0");
    let client_slot = 1;
    let wrong = [(client_slot, vec!["192.0.2.1".parse().unwrap()])].into();
    Store::open(&secgroup.state_dir()).unwrap().set_addresses_in_force(&wrong).unwrap();
    secgroup.ok("group create unrelated --description x");
    assert_eq!(moving.in_force(&secgroup).tables().bank, 1 - tables.bank, "all of it anew");
    moving.one_is_admitted(&secgroup);
}

/// A client whose device is in the group `web`, and further addresses of it that move between that
/// device and another. `db`, the server's group, has a rule for members of `web`.
struct Moving<'a> {
    net: &'a Pair,
    echoes: [UdpEcho; 2],
}

impl<'a> Moving<'a> {
    fn start(net: &'a Pair, secgroup: &Secgroup<'_>) -> Self {
        secgroup.ok("group create db --description x");
        secgroup.ok("group create web --description x");
        secgroup.ok("rule add db ingress --protocol udp --port 53 --group web");
        secgroup.ok(&format!("attach eth0 --netns {} --group db", net.server.name()));
        secgroup.ok(&format!("attach eth0 --netns {} --group web", net.client.name()));
        // The server finds the addresses wherever the client has them.
        for (moving, client) in MOVING.into_iter().zip(Pair::CLIENT) {
            net.server.ip(&format!("route add {moving} via {client}"));
        }
        let moving =
            Self { net, echoes: at(Pair::SERVER, 53).map(|end| UdpEcho::start(&net.server, end)) };
        moving.change("add", "lo");
        assert_eq!(moving.reach(), [false; 2]);
        moving
    }

    /// What the kernel has in force on the server's device, which came first.
    fn in_force(&self, secgroup: &Secgroup<'_>) -> Active {
        Maps::open(&Pins::new(secgroup.pin_dir())).unwrap().active(0).unwrap()
    }

    /// The server drops what comes from the IPv4 address.
    fn one_is_refused(&self, secgroup: &Secgroup<'_>) {
        let [server, client] = self.devices();
        let expected = [(&client[..], "egress", "new-flow", 1), (&server, "ingress", "no-rule", 1)];
        assert!(!secgroup.moved(&expected, || self.reach_from(0)));
    }

    /// The server answers the IPv4 address.
    fn one_is_admitted(&self, secgroup: &Secgroup<'_>) {
        let [server, client] = self.devices();
        let expected = [
            (&client[..], "egress", "new-flow", 1),
            (&server, "ingress", "new-flow", 1),
            (&server, "egress", "established", 1),
            (&client, "ingress", "established", 1),
        ];
        assert!(secgroup.moved(&expected, || self.reach_from(0)));
    }

    /// As the counters name them.
    fn devices(&self) -> [String; 2] {
        [&self.net.server, &self.net.client].map(|netns| format!("{}/eth0", netns.name()))
    }

    fn to_the_member(&self) {
        self.change("delete", "lo");
        self.change("add", "eth0");
    }

    fn to_another_device(&self) {
        self.change("delete", "eth0");
        self.change("add", "lo");
    }

    fn change(&self, what: &str, device: &str) {
        for address in MOVING {
            let (bits, nodad) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
            // Asked of an address that is deleted, `nodad` is no argument.
            let nodad = if what == "add" { nodad } else { "" };
            self.net.client.ip(&format!("address {what} {address}/{bits} dev {device} {nodad}"));
        }
    }

    /// Moves the IPv4 address alone to a device: one change, and no word of it on the network.
    fn one_to(&self, device: &str) {
        let [address, _] = MOVING;
        let other = if device == "lo" { "eth0" } else { "lo" };
        self.net.client.ip(&format!("address delete {address}/32 dev {other}"));
        self.net.client.ip(&format!("address add {address}/32 dev {device}"));
    }

    /// Whether the server answers each of the addresses, asked from a port of its own.
    fn reach(&self) -> [bool; 2] {
        [0, 1].map(|family| self.reach_from(family))
    }

    fn reach_from(&self, family: usize) -> bool {
        let source = SocketAddr::new(MOVING[family], 0);
        let socket = udp::bind(&self.net.client, source);
        socket.connect(self.echoes[family].address()).unwrap();
        udp::is_echoed(&socket, SILENCE)
    }
}

#[test]
fn the_other_end_of_a_point_to_point_device_is_no_member() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    net.server.ip("address add 10.88.0.1 peer 10.88.0.2 dev eth0");
    net.server.ip("address add fd88::1 peer fd88::2 dev eth0 nodad");
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let status = secgroup.json("status");
    let interface = &status["NetworkInterfaces"][0];
    let v4 = json!([{"PrivateIpAddress": "10.77.0.1"}, {"PrivateIpAddress": "10.88.0.1"}]);
    let v6 = json!([{"Ipv6Address": "fd77::1"}, {"Ipv6Address": "fd88::1"}]);
    assert_eq!(interface["PrivateIpAddresses"], v4);
    assert_eq!(interface["Ipv6Addresses"], v6);
}
