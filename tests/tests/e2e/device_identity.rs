//! A device is the kernel's link, not its name: it stays attached when it is renamed or moved, and another one
//! that takes its name is another one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use secgroup_tests::network::{End, at, join};
use secgroup_tests::ping::ping;
use secgroup_tests::socket::device_index;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::tun::Tun;
use secgroup_tests::udp;
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Guest, Namespace, Pair, Process, Secgroup, frame, tc_hook};
use serde_json::{Value, json};

/// The servers' first addresses, which the client pings.
const SERVER: IpAddr = Pair::SERVER[0];

/// The interfaces, as `status` prints them.
fn interfaces(secgroup: &Secgroup<'_>) -> Vec<Value> {
    // 5: an interface is not enforced, which the callers look at.
    let output = secgroup.run(["status", "--output", "json"]);
    assert!(matches!(output.code, Some(0 | 5)), "{output}");
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    document["NetworkInterfaces"].as_array().unwrap().clone()
}

/// Device, namespace and state of each interface.
fn states(secgroup: &Secgroup<'_>) -> Vec<Value> {
    let all = interfaces(secgroup);
    all.iter().map(|one| json!([one["Device"], one["Netns"], one["State"]])).collect()
}

/// Renames the device of a pair's server, which keeps its address.
fn rename(namespace: &Namespace, from: &str, to: &str) {
    namespace.ip(&format!("link set {from} down"));
    namespace.ip(&format!("link set {from} name {to}"));
    namespace.ip(&format!("link set {to} up"));
}

/// A group that lets nothing in or out.
fn closed(secgroup: &Secgroup<'_>, name: &str) {
    secgroup.ok(&format!("group create {name} --description x"));
    secgroup.ok(&format!("rule remove {name} egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0"));
}

#[test]
fn a_renamed_device_stays_attached() {
    for hook in [tc_hook(), "clsact", "xdp", "xdp-generic"] {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        closed(&secgroup, "none");
        secgroup.ok(&format!("attach eth0 --group none --hook {hook}"));
        rename(&net.server, "eth0", "wan0");
        for line in ["status", "reconcile"] {
            secgroup.ok(line);
            let all = interfaces(&secgroup);
            let [one] = &all[..] else { panic!("{hook}, {line}: {all:?}") };
            assert_eq!(one["State"], "enforcing", "{hook}, {line}");
            assert_eq!((&one["Device"], &one["PresentDevice"]), (&json!("eth0"), &json!("wan0")));
            assert!(one["Remarks"][0].as_str().unwrap().starts_with("renamed: "), "{one}");
            assert!(!ping(&net.client, SERVER), "{hook}, {line}");
        }
        // By either name.
        assert_eq!(secgroup.ok("mode wan0 audit"), "eth0: audit\n");
        assert!(ping(&net.client, SERVER), "{hook}: audit");
        assert_eq!(secgroup.ok("mode eth0 enforce"), "eth0: enforce\n");
        secgroup.ok("stats wan0");
        secgroup.ok("detach wan0");
        assert!(ping(&net.client, SERVER), "{hook}: detached");
    }
}

#[test]
fn attaching_by_a_new_name_stores_it_and_keeps_the_old_one_for_its_next_device() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup, "none");
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol icmp --cidr 0.0.0.0/0");
    secgroup.ok("attach eth0 --group none");
    rename(&net.server, "eth0", "wan0");
    secgroup.ok("attach wan0 --group open");
    assert!(ping(&net.client, SERVER), "the groups replace those from before");
    let expected = [json!(["wan0", null, "enforcing"]), json!(["eth0", null, "device-missing"])];
    assert_eq!(states(&secgroup), expected);

    let ends = [(&net.server, "10.80.0.1/24"), (&net.client, "10.80.0.2/24")];
    let [server, client] = ends.map(|(namespace, address)| (namespace, [address]));
    join([
        End { namespace: server.0, device: "eth0", addresses: &server.1 },
        End { namespace: client.0, device: "new0", addresses: &client.1 },
    ]);
    assert!(ping(&net.client, "10.80.0.1".parse().unwrap()), "not attached yet");
    secgroup.ok("reconcile");
    assert!(!ping(&net.client, "10.80.0.1".parse().unwrap()), "with the groups of eth0");
    assert!(ping(&net.client, SERVER));
    secgroup.ok("detach eth0");
    assert!(ping(&net.client, "10.80.0.1".parse().unwrap()));
    assert_eq!(states(&secgroup), [json!(["wan0", null, "enforcing"])]);
}

#[test]
fn an_alternative_name_is_one_of_the_device() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup, "none");
    let long = "enp0s31f6np0-of-the-first-slot";
    for name in ["enp0s1", long] {
        net.server.ip(&format!("link property add dev eth0 altname {name}"));
    }
    secgroup.ok("attach enp0s1 --group none");
    for name in ["eth0", long] {
        secgroup.ok(&format!("attach {name} --group none --mode audit"));
        assert_eq!(states(&secgroup), [json!(["eth0", null, "auditing"])], "{name}");
        secgroup.ok(&format!("attach {name} --group none --mode enforce"));
    }
    for name in ["enp0s1", long] {
        net.server.ip(&format!("link property del dev eth0 altname {name}"));
    }
    secgroup.ok("reconcile");
    assert_eq!(states(&secgroup), [json!(["eth0", null, "enforcing"])]);
    assert!(!ping(&net.client, SERVER));
}

/// Two interfaces are stored, and then one device has the names of both.
#[test]
fn a_device_has_the_programs_of_one_interface() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup, "none");
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol icmp --cidr 0.0.0.0/0");
    net.server.ip("link add wan0 type veth peer name wan1");
    secgroup.ok("attach wan0 --group none");
    secgroup.ok("attach eth0 --group open");
    net.server.ip("link delete wan0");
    net.server.ip("link property add dev eth0 altname wan0");
    let refused = secgroup.refused("reconcile", 1);
    assert!(refused.contains("wan0 is a name of the device eth0 now, which is attached as eth0"));
    assert!(ping(&net.client, SERVER), "the programs of eth0 alone");
    let expected = [json!(["wan0", null, "not-enforcing"]), json!(["eth0", null, "enforcing"])];
    assert_eq!(states(&secgroup), expected);
    let refused = secgroup.refused("detach wan0", 1);
    assert!(refused.contains("wan0 is the stored name of "), "{refused}");
    let id = interfaces(&secgroup)[0]["NetworkInterfaceId"].as_str().unwrap().to_owned();
    secgroup.ok(&format!("detach {id}"));
    secgroup.ok("attach wan0 --group none");
    assert_eq!(states(&secgroup), [json!(["eth0", null, "enforcing"])]);
    assert!(!ping(&net.client, SERVER));
}

/// Root in a network namespace names the devices there.
#[test]
fn programs_stay_on_a_device_whose_name_another_takes_in_its_namespace() {
    for hook in [tc_hook(), "clsact"] {
        let net = Pair::new();
        let host = Namespace::new();
        let secgroup = Secgroup::inside(&host);
        closed(&secgroup, "none");
        let boxed = net.server.name();
        secgroup.ok(&format!("attach eth0 --netns {boxed} --group none --hook {hook}"));
        host.ip("link add late0 type veth peer name late1");
        secgroup.ok("attach late0 --group none");
        host.ip("link delete late0");
        let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
        serve.wait_for_output("metrics at");
        rename(&net.server, "eth0", "x0");
        net.server.ip("link add eth0 type veth peer name y0");
        // `serve` has seen both when it attaches the interface of a later slot.
        host.ip("link add late0 type veth peer name late1");
        serve.wait_for_output("late0 appeared: attached");
        secgroup.ok("reconcile");
        assert!(!ping(&net.client, SERVER), "{hook}");
        let all = interfaces(&secgroup);
        assert_eq!(all.len(), 2, "{hook}: {all:?}");
        let one = &all[0];
        assert_eq!((&one["State"], &one["PresentDevice"]), (&json!("enforcing"), &json!("x0")));
        let remark = one["Remarks"][1].as_str().unwrap();
        assert!(remark.starts_with(&format!("another device has the name {boxed}/eth0")), "{one}");

        // Only its operator attaches the other one, as another interface.
        secgroup.ok(&format!("attach eth0 --netns {boxed} --group none --hook {hook}"));
        let expected = [
            json!(["x0", boxed, "enforcing"]),
            json!(["late0", null, "enforcing"]),
            json!(["eth0", boxed, "enforcing"]),
        ];
        assert_eq!(states(&secgroup), expected, "{hook}");
        assert!(!ping(&net.client, SERVER), "{hook}");
    }
}

/// What root in one namespace puts there keeps no other interface from being read or attached.
/// A pair of devices of which one is in the server's namespace.
fn more(net: &Pair, device: &str, number: u8) -> IpAddr {
    let [server, client] = [1, 2].map(|host| [format!("10.{number}.0.{host}/24")]);
    let [server, client] = [&server, &client].map(|addresses| [addresses[0].as_str()]);
    join([
        End { namespace: &net.server, device, addresses: &server },
        End { namespace: &net.client, device: &format!("far{number}"), addresses: &client },
    ]);
    format!("10.{number}.0.1").parse().unwrap()
}

/// The names of three devices move on by one: each keeps its programs, the new one gets those of the name that it
/// has, and what was renamed back is stored once.
#[test]
fn names_that_move_on_leave_no_device_open() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup, "none");
    let second = more(&net, "eth1", 81);
    secgroup.ok("attach eth0 --group none");
    secgroup.ok("attach eth1 --group none");
    rename(&net.server, "eth0", "old0");
    rename(&net.server, "eth1", "eth0");
    let third = more(&net, "eth1", 82);
    assert!(ping(&net.client, third), "not attached yet");
    secgroup.ok("reconcile");
    let mut stored = states(&secgroup);
    stored.sort_by_key(Value::to_string);
    let expected = ["eth0", "eth1", "old0"].map(|name| json!([name, null, "enforcing"]));
    assert_eq!(stored, expected);
    for address in [SERVER, second, third] {
        assert!(!ping(&net.client, address), "{address}");
    }
    for interface in interfaces(&secgroup) {
        assert_eq!(
            (&interface["PresentDevice"], &interface["Remarks"]),
            (&interface["Device"], &json!([]))
        );
    }
    // The new one goes, and the second takes its name back.
    net.server.ip("link delete eth1");
    rename(&net.server, "eth0", "eth1");
    secgroup.ok("reconcile");
    let mut stored = states(&secgroup);
    stored.sort_by_key(Value::to_string);
    assert_eq!(stored, ["eth1", "old0"].map(|name| json!([name, null, "enforcing"])));
    secgroup.ok("status");
    assert!(!ping(&net.client, second));
}

/// Root in a namespace to which a device was given may rename it as often as he likes.
#[test]
fn a_device_that_was_given_away_takes_no_further_interfaces() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let boxed = Namespace::new();
    closed(&secgroup, "none");
    secgroup.ok("attach eth0 --group none");
    net.server.ip(&format!("link set eth0 netns {}", boxed.name()));
    let own = more(&net, "eth0", 83);
    secgroup.ok("reconcile");
    assert!(!ping(&net.client, own));
    for round in 0..3 {
        let from = if round == 0 { "eth0".to_owned() } else { format!("x{round}") };
        boxed.ip(&format!("link set {from} name x{}", round + 1));
        boxed.ip(&format!("link add {from} type veth peer name p{round}"));
        secgroup.ok("reconcile");
        assert_eq!(interfaces(&secgroup).len(), 2, "round {round}");
    }
}

#[test]
fn a_device_that_cannot_be_attached_affects_no_other_one() {
    let net = Pair::new();
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    closed(&secgroup, "none");
    let boxed = net.server.name();
    secgroup.ok(&format!("attach eth0 --netns {boxed} --group none"));
    host.ip("link add late0 type veth peer name late1");
    secgroup.ok("attach late0 --group none");
    host.ip("link delete late0");
    rename(&net.server, "eth0", "x0");
    let _namesake = Tun::of_another_link_layer(&net.server, "eth0");
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    assert_eq!(states(&secgroup)[0], json!(["eth0", boxed, "enforcing"]));
    secgroup.ok("reconcile");
    net.server.ip("link delete x0");
    wait_until(MAX_WAIT, "the device to be gone", || {
        states(&secgroup)[0] == json!(["eth0", boxed, "not-enforcing"])
    });
    let refused = secgroup.refused("reconcile", 1);
    assert!(refused.contains("is neither Ethernet nor bare IP"), "{refused}");
    host.ip("link add late0 type veth peer name late1");
    serve.wait_for_output("late0 appeared: attached");
}

#[test]
fn a_device_with_the_index_of_one_that_moved_away_is_another_one() {
    for hook in [tc_hook(), "clsact", "xdp"] {
        let net = Pair::new();
        let child = Namespace::new();
        let secgroup = Secgroup::inside(&net.server);
        closed(&secgroup, "none");
        secgroup.ok(&format!("attach eth0 --group none --hook {hook}"));
        let index = device_index(&net.server, "eth0");
        net.server.ip(&format!("link set eth0 netns {}", child.name()));
        secgroup.ok("reconcile");
        net.server.ip(&format!("link add name eth0 index {index} type veth peer name eth1"));
        net.server.ip(&format!("link set eth1 netns {}", net.client.name()));
        for (namespace, device, number) in [(&net.server, "eth0", 1), (&net.client, "eth1", 2)] {
            namespace.ip(&format!("address add 10.80.0.{number}/24 dev {device}"));
            namespace.ip(&format!("link set {device} up"));
        }
        assert_eq!(device_index(&net.server, "eth0"), index);
        let survives = hook != "clsact";
        let remark = interfaces(&secgroup)[0]["Remarks"][1].as_str().map(str::to_owned);
        assert_eq!(remark.is_some(), survives, "{hook}: {remark:?}");

        secgroup.ok("reconcile");
        assert!(!ping(&net.client, "10.80.0.1".parse().unwrap()), "{hook}: the new one");
        let mut expected = vec![json!(["eth0", null, "enforcing"])];
        if survives {
            // The one that moved has its programs still.
            expected.insert(0, json!(["eth0", child.name(), "enforcing"]));
            child.ip("address add 10.77.0.1/24 dev eth0");
            child.ip("link set eth0 up");
            assert!(!ping(&net.client, SERVER), "{hook}: the old one");
            secgroup.ok(&format!("detach eth0 --netns {}", child.name()));
            assert!(ping(&net.client, SERVER), "{hook}: detached");
            expected.remove(0);
        }
        assert_eq!(states(&secgroup), expected, "{hook}");
    }
}

#[test]
fn a_device_stays_attached_in_another_namespace() {
    let net = Pair::new();
    let child = Namespace::new();
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup, "none");
    secgroup.ok("attach eth0 --group none");
    net.server.ip(&format!("link set eth0 netns {}", child.name()));
    child.ip("address add 10.77.0.1/24 dev eth0");
    child.ip("link set eth0 up");
    for line in ["status", "reconcile"] {
        secgroup.ok(line);
        assert!(!ping(&net.client, SERVER), "{line}");
        let all = interfaces(&secgroup);
        let present = (&all[0]["State"], &all[0]["PresentDevice"], &all[0]["PresentNetns"]);
        assert_eq!(present, (&json!("enforcing"), &json!("eth0"), &json!(child.name())), "{line}");
    }
    secgroup.ok("detach eth0");
    assert!(ping(&net.client, SERVER));
}

/// A namespace that nobody can name keeps the device; its place is taken by another one.
#[test]
fn a_device_in_a_namespace_without_a_name_stays_attached() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup, "none");
    secgroup.ok("attach eth0 --group none");
    let mut holder = net.server.command("unshare");
    holder.args(["--net", "sleep", "1000"]);
    let mut holder = Process::start(holder);
    let id = holder.id();
    let own = std::fs::read_link(format!("/proc/{id}/ns/net")).unwrap();
    wait_until(MAX_WAIT, "a namespace", || {
        let now = std::fs::read_link(format!("/proc/{id}/ns/net")).unwrap();
        now != own || std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap() == "sleep\n"
    });
    net.server.ip(&format!("link set eth0 netns {id}"));
    secgroup.ok("reconcile");
    let one = &interfaces(&secgroup)[0];
    assert_eq!(
        (&one["State"], &one["PresentDevice"]),
        (&json!("enforcing"), &Value::Null),
        "{one}"
    );

    join([
        End { namespace: &net.server, device: "eth0", addresses: &["10.80.0.1/24"] },
        End { namespace: &net.client, device: "new0", addresses: &["10.80.0.2/24"] },
    ]);
    secgroup.ok("reconcile");
    assert!(!ping(&net.client, "10.80.0.1".parse().unwrap()));
    let expected = [json!(["eth0", "left:0", "enforcing"]), json!(["eth0", null, "enforcing"])];
    assert_eq!(states(&secgroup), expected);
    // As `attach` does it.
    secgroup.ok("detach eth0");
    assert!(ping(&net.client, "10.80.0.1".parse().unwrap()));
    secgroup.ok("attach eth0 --group none");
    assert_eq!(states(&secgroup), expected);
    // The namespace ends, and its device with it.
    holder.kill();
    wait_until(MAX_WAIT, "the device to be gone", || {
        states(&secgroup)[0] == json!(["eth0", "left:0", "device-missing"])
    });
    secgroup.ok("reconcile");
    assert_eq!(states(&secgroup), [json!(["eth0", null, "enforcing"])]);
}

#[test]
fn a_guest_on_a_device_that_was_made_again_starts_without_flows() {
    for hook in [tc_hook(), "clsact"] {
        let net = Guest::new();
        let secgroup = Secgroup::inside(&net.host);
        let tap = Guest::DEVICE;
        secgroup.ok("group create vm --description x");
        secgroup.ok("rule add vm ingress --protocol tcp --port 22 --cidr 10.79.0.0/24");
        secgroup.ok(&format!("attach {tap} --group vm --orientation guest --hook {hook}"));
        let end = at(Guest::GUEST, 22)[0];
        let server = TcpServer::echo(&net.guest, end);
        let mut stream = tcp::connect(&net.outside, end).unwrap();
        tcp::exchange(&mut stream, b"hello").unwrap();
        let flows = || secgroup.json("flows list")["Flows"].as_array().map_or(0, Vec::len);
        assert_eq!(flows(), 1, "{hook}");
        secgroup.ok("reconcile");
        assert_eq!(flows(), 1, "{hook}: the same device keeps them");
        drop(server);
        net.host.ip(&format!("link delete {tap}"));
        net.host.ip(&format!("link add {tap} type veth peer name other0"));
        secgroup.ok("reconcile");
        assert_eq!(flows(), 0, "{hook}");
        assert_eq!(states(&secgroup), [json!([tap, null, "enforcing"])], "{hook}");
    }
}

/// What a macvtap receives is for the guest that has it open.
#[test]
fn a_guest_on_a_macvtap_is_filtered() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    net.server.ip("link add vm0 link eth0 address 02:00:00:00:00:33 type macvtap mode bridge");
    net.server.sysctl("net.ipv6.conf.vm0.disable_ipv6", "1");
    net.server.ip("link set vm0 up");
    let guest = Tun::of_macvtap(&net.server, "vm0");
    let address = Ipv4Addr::new(10, 77, 0, 9);
    net.client.ip("link set eth0 address 02:00:00:00:00:02");
    net.client.ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:33 dev eth0"));
    secgroup.ok("group create vm --description x");
    secgroup.ok(&format!("attach vm0 --group vm --orientation guest --address {address}"));

    let outside = SocketAddr::new(Pair::CLIENT[0], 9);
    let inside = SocketAddr::new(address.into(), 7);
    let socket = udp::bind(&net.client, outside);
    secgroup.moved(&[("vm0", "ingress", "no-rule", 1)], || {
        socket.send_to(b"unasked", inside).unwrap();
    });
    let header = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x33, 8, 0];
    let sent = [&header[..], &frame::udp(inside, outside, b"from the guest")].concat();
    let mut buffer = [0; 64];
    secgroup.moved(&[("vm0", "egress", "new-flow", 1)], || {
        guest.send(&sent);
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"from the guest"[..], inside));
    });
    secgroup.moved(&[("vm0", "ingress", "established", 1)], || {
        socket.send_to(b"the reply", inside).unwrap();
        let _ = guest.receive(|frame| frame.ends_with(b"the reply"));
    });
    // An address that is not the guest's: the checks of a guest are in their direction too.
    let forged = SocketAddr::new(Ipv4Addr::new(10, 77, 0, 10).into(), 7);
    let sent = [&header[..], &frame::udp(forged, outside, b"forged")].concat();
    secgroup.moved(&[("vm0", "egress", "source-address", 1)], || guest.send(&sent));
}
