//! Rules whose peer is a group match the addresses of the group's interfaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use firewall_ebpf::abi::policy::{Active, Half};
use firewall_user::dataplane::Pins;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::store::Store;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::wait_until;
use secgroup_tests::{Guest, Pair, Process, Secgroup};
use serde_json::json;

/// Further addresses of the client, which move between a member's device and another.
const MOVING: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3)),
];

/// Shorter than the five seconds between two polls of `serve`.
const BEFORE_POLL: Duration = Duration::from_secs(3);

const REPLY_TIMEOUT: Duration = Duration::from_millis(200);

#[test]
fn an_interface_is_a_member_only_while_it_is_attached() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let member = format!("eth0 --netns {}", net.client.name());
    let declared = declared(Pair::CLIENT);
    secgroup.ok("group create db --description x");
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add db ingress --protocol tcp --port 5432 --group web");
    secgroup.ok("attach eth0 --group db");
    let ends = at(Pair::SERVER, 5432);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(tcp::none_reaches(&net.client, &ends));

    secgroup.ok(&format!("attach {member} --group web {declared}"));
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"hello").unwrap();
    }
    secgroup.ok(&format!("attach {member} --group db"));
    assert!(tcp::none_reaches(&net.client, &ends), "a member of another group");
    secgroup.ok(&format!("attach {member} --group db --group web"));
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"hello").unwrap();
    }
    secgroup.ok(&format!("detach {member}"));
    assert!(tcp::none_reaches(&net.client, &ends), "no longer a member");
}

#[test]
fn members_of_a_group_that_names_itself_reach_each_other() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create mesh --description x");
    secgroup.ok("rule add mesh ingress --protocol tcp --port 80 --group mesh");
    secgroup.ok("attach eth0 --group mesh");
    secgroup.ok(&format!(
        "attach eth0 --netns {} --group mesh {}",
        net.client.name(),
        declared(Pair::CLIENT)
    ));
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
    assert!(tcp::none_reaches(&net.guest, &ends), "the tap's own addresses belong to the host");

    let [v4, v6] = Guest::GUEST;
    secgroup.ok(&format!("attach {tap} --address {v4} --address {v6}"));
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.guest, end).unwrap(), b"hello").unwrap();
    }
}

#[test]
fn serve_applies_address_changes_of_its_namespace_at_once() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    let moving = MovingAddresses::start(&net, &secgroup);
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    moving.move_to_member();
    wait_until(BEFORE_POLL, "packets from the addresses to pass", || {
        moving.answered() == [true; 2]
    });
    moving.move_to_other_device();
    wait_until(BEFORE_POLL, "packets from the addresses to be dropped", || {
        moving.answered() == [false; 2]
    });
}

/// Who is root there would choose them.
#[test]
fn an_address_that_a_device_of_another_namespace_gives_itself_is_no_members() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let (boxed, [v4, _]) = (net.client.name(), Pair::CLIENT);
    secgroup.ok("group create db --description x");
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group db");
    let warning =
        "rules that name the group web as their peer do not match it: it has no declared address";
    let run = |line: &str| {
        let output = secgroup.run(line.split_whitespace());
        assert_eq!(output.code, Some(0), "{line}: {output}");
        output.stderr.contains(&format!("secgroup: {boxed}/eth0: {warning}"))
    };
    assert!(!run(&format!("attach eth0 --netns {boxed} --group web")), "no rule names it");
    assert!(run("rule add db ingress --protocol udp --port 53 --group web"));
    assert!(!run("rule add db ingress --protocol udp --port 54 --group web"), "said already");
    assert!(secgroup.ok("status").contains(&format!("{boxed}/eth0: {warning}")));
    let member = secgroup.json("status")["NetworkInterfaces"][1].clone();
    assert_eq!(member["GroupsWithoutAddress"], json!(["web"]));
    assert_eq!(member["PrivateIpAddresses"], json!([]));
    let echo = UdpEcho::start(&net.server, at(Pair::SERVER, 53)[0]);
    let is_answered = |from: IpAddr| {
        let socket = udp::bind(&net.client, SocketAddr::new(from, 0));
        socket.connect(echo.address()).unwrap();
        udp::is_echoed(&socket, REPLY_TIMEOUT)
    };
    assert!(!is_answered(v4));
    assert!(!run(&format!("attach eth0 --netns {boxed} --group web --address {v4}")));
    assert!(is_answered(v4));
    net.client.ip("address add 10.77.0.3/24 dev eth0");
    secgroup.ok("reconcile");
    assert!(!is_answered(MOVING[0]), "an address that it gave itself");
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][1]["GroupsWithoutAddress"], json!([]));
    assert!(run(&format!("attach eth0 --netns {boxed} --group web --address none")));
}

/// The options of `attach` that declare addresses.
fn declared(addresses: [IpAddr; 2]) -> String {
    let [v4, v6] = addresses;
    format!("--address {v4} --address {v6}")
}

#[test]
fn the_next_command_applies_address_changes_without_serve() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    let moving = MovingAddresses::start(&net, &secgroup);
    moving.move_to_member();
    assert_eq!(moving.answered(), [false; 2], "the change is not applied yet");
    secgroup.ok("reconcile");
    assert_eq!(moving.answered(), [true; 2]);
    moving.move_to_other_device();
    assert_eq!(moving.answered(), [true; 2], "the change is not applied yet");
    secgroup.ok("group create unrelated --description x");
    assert_eq!(moving.answered(), [false; 2]);
}

/// A change of addresses is written to the other half of the tables, also by a command that is not
/// about addresses.
#[test]
fn an_address_change_switches_the_half_of_the_tables() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    let moving = MovingAddresses::start(&net, &secgroup);
    let first = moving.active(&secgroup);

    moving.move_v4_to("eth0");
    assert_eq!(moving.active(&secgroup), first, "the change is not applied yet");
    moving.assert_v4_dropped(&secgroup);
    secgroup.ok("group create unrelated --description x");
    let second = moving.active(&secgroup);
    let tables = first.tables();
    assert_eq!(second.tables(), Half { half: 1 - tables.half, ..tables });
    assert_ne!(second.generation(), first.generation(), "another policy");
    moving.assert_v4_passed(&secgroup);

    moving.move_v4_to("lo");
    secgroup.ok("group create another --description x");
    assert_eq!(moving.active(&secgroup), first, "the same policy in the same half");
}

#[test]
fn serve_applies_an_address_change_to_the_other_half() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    let moving = MovingAddresses::start(&net, &secgroup);
    let tables = moving.active(&secgroup).tables();
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    moving.move_v4_to("eth0");
    wait_until(BEFORE_POLL, "packets from the address to pass", || {
        moving.answered() == [true, false]
    });
    assert_eq!(moving.active(&secgroup).tables(), Half { half: 1 - tables.half, ..tables });
    moving.assert_v4_passed(&secgroup);
}

/// The stored addresses are checked against the kernel's own record.
#[test]
fn wrong_stored_addresses_cause_a_full_rewrite() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    let moving = MovingAddresses::start(&net, &secgroup);
    let tables = moving.active(&secgroup).tables();
    moving.move_v4_to("eth0");
    let client_slot = 1;
    let wrong = [(client_slot, vec!["192.0.2.1/32".parse().unwrap()])].into();
    Store::open(&secgroup.state_dir()).unwrap().set_active_addresses(&wrong).unwrap();
    secgroup.ok("group create unrelated --description x");
    assert_eq!(moving.active(&secgroup).tables().bank, 1 - tables.bank, "a full rewrite");
    moving.assert_v4_passed(&secgroup);
}

/// A client, on which secgroup runs, whose device is in the group `web`, with further addresses that move between that
/// device and another. `db`, the server's group, has a rule for members of `web`.
struct MovingAddresses<'a> {
    net: &'a Pair,
    echoes: [UdpEcho; 2],
}

impl<'a> MovingAddresses<'a> {
    fn start(net: &'a Pair, secgroup: &Secgroup<'_>) -> Self {
        secgroup.ok("group create db --description x");
        secgroup.ok("group create web --description x");
        secgroup.ok("rule add db ingress --protocol udp --port 53 --group web");
        secgroup.ok(&format!("attach eth0 --netns {} --group db", net.server.name()));
        secgroup.ok("attach eth0 --group web");
        // The server has routes to the addresses on any device of the client.
        for (moving, client) in MOVING.into_iter().zip(Pair::CLIENT) {
            net.server.ip(&format!("route add {moving} via {client}"));
        }
        let moving =
            Self { net, echoes: at(Pair::SERVER, 53).map(|end| UdpEcho::start(&net.server, end)) };
        moving.change_addresses("add", "lo");
        assert_eq!(moving.answered(), [false; 2]);
        moving
    }

    /// The active policy of the server's device, which has slot 0.
    fn active(&self, secgroup: &Secgroup<'_>) -> Active {
        Maps::open(&Pins::new(secgroup.pin_dir())).unwrap().active(0).unwrap()
    }

    /// The server drops what comes from the IPv4 address.
    fn assert_v4_dropped(&self, secgroup: &Secgroup<'_>) {
        let [server, client] = self.devices();
        let expected = [(&client[..], "egress", "new-flow", 1), (&server, "ingress", "no-rule", 1)];
        assert!(!secgroup.moved(&expected, || self.is_answered(0)));
    }

    /// The server answers the IPv4 address.
    fn assert_v4_passed(&self, secgroup: &Secgroup<'_>) {
        let [server, client] = self.devices();
        let expected = [
            (&client[..], "egress", "new-flow", 1),
            (&server, "ingress", "new-flow", 1),
            (&server, "egress", "established", 1),
            (&client, "ingress", "established", 1),
        ];
        assert!(secgroup.moved(&expected, || self.is_answered(0)));
    }

    /// The devices, as the counters name them.
    fn devices(&self) -> [String; 2] {
        [format!("{}/eth0", self.net.server.name()), "eth0".to_owned()]
    }

    fn move_to_member(&self) {
        self.change_addresses("delete", "lo");
        self.change_addresses("add", "eth0");
    }

    fn move_to_other_device(&self) {
        self.change_addresses("delete", "eth0");
        self.change_addresses("add", "lo");
    }

    fn change_addresses(&self, what: &str, device: &str) {
        for address in MOVING {
            let (bits, nodad) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
            // `ip address delete` does not accept `nodad`.
            let nodad = if what == "add" { nodad } else { "" };
            self.net.client.ip(&format!("address {what} {address}/{bits} dev {device} {nodad}"));
        }
    }

    /// Moves only the IPv4 address to a device, which sends no packet.
    fn move_v4_to(&self, device: &str) {
        let [address, _] = MOVING;
        let other = if device == "lo" { "eth0" } else { "lo" };
        self.net.client.ip(&format!("address delete {address}/32 dev {other}"));
        self.net.client.ip(&format!("address add {address}/32 dev {device}"));
    }

    /// Whether the server replies to each of the addresses, each request from a new port.
    fn answered(&self) -> [bool; 2] {
        [0, 1].map(|family| self.is_answered(family))
    }

    fn is_answered(&self, family: usize) -> bool {
        let source = SocketAddr::new(MOVING[family], 0);
        let socket = udp::bind(&self.net.client, source);
        socket.connect(self.echoes[family].address()).unwrap();
        udp::is_echoed(&socket, REPLY_TIMEOUT)
    }
}

#[test]
fn the_peer_address_of_a_point_to_point_device_is_not_a_member() {
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
