//! Changes of network ACLs and blocks on an attached interface.

use secgroup_tests::{Pair, Secgroup};

use super::policies::{Probe, Reachable};
use super::{is_new_policy, kill_at_every_moment, pins, state};

/// The ports of the entry that changes: some of the probed ones.
const PORTS: &str = "1001-1003";

/// What the entry does, each with the ports at which replies come from inside then.
const STEPS: [(&str, &[u16]); 2] =
    [("allow", &[1001, 1002, 1003, 1004, 1005]), ("deny", &[1004, 1005])];

#[test]
fn a_change_of_an_acl_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let probe = Probe::new(&net, &secgroup);
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok("acl create web");
    for (number, network) in [(100, "0.0.0.0/0"), (101, "::/0")] {
        for direction in ["ingress", "egress"] {
            let what = format!("{direction} {number} allow --protocol all --cidr {network}");
            secgroup.ok(&format!("acl entry add web {what}"));
        }
    }
    let entry = |step: usize, at: u16, network: &str| {
        let action = STEPS[step].0;
        format!("web ingress {at} {action} --protocol udp --port {PORTS} --cidr {network}")
    };
    // Only that for IPv4 is replaced.
    secgroup.ok(&format!("acl entry add {}", entry(0, 50, "10.77.0.0/24")));
    secgroup.ok(&format!("acl entry add {}", entry(0, 51, "fd77::/64")));
    secgroup.ok("attach eth0 --group open");
    secgroup.ok("acl associate web eth0");
    let outside = [2001, 2002, 2003];
    let policies = STEPS.map(|(_, ports)| {
        let mut reachable = probe.expected(ports, &outside);
        reachable.extend(probe.all().into_iter().filter(|(_, end)| end.is_ipv6()));
        reachable
    });
    // The index of the stored entry.
    let stored = || {
        let shown = secgroup.ok("acl show web");
        let line = shown.lines().find(|line| line.contains(PORTS) && line.contains("10.77.0.0"));
        usize::from(line.unwrap().contains("deny"))
    };
    let expected_pins = pins(secgroup.pin_dir());
    let current = std::cell::Cell::new(stored());
    let line = || {
        let line = format!("acl entry replace {}", entry(1 - current.get(), 50, "10.77.0.0/24"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    kill_at_every_moment(&secgroup, line, |when| {
        let (old, new) = (current.get(), stored());
        let is_new = is_new_policy(&probe, [&policies[old], &policies[1 - old]], when);
        assert!(!is_new || new != old, "{when}: active and not stored");
        secgroup.ok("reconcile");
        assert_eq!(stored(), new, "{when}");
        assert_eq!(probe.reachable(), policies[new], "{when}, after reconcile");
        assert_eq!(state(&secgroup).as_deref(), Some("enforcing"), "{when}");
        assert_eq!(pins(secgroup.pin_dir()), expected_pins, "{when}");
        current.set(new);
    });
}

#[test]
fn a_block_and_its_end_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let probe = Probe::new(&net, &secgroup);
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok("attach eth0 --group open");
    let open = probe.all();
    let blocked: Reachable = open.iter().filter(|(_, end)| end.is_ipv6()).copied().collect();
    let policies = [open, blocked];
    let client = Pair::CLIENT[0];
    let stored = || usize::from(secgroup.ok("block list").contains(&client.to_string()));
    // First alone, so that its tables come and go; then beside another, so that the halves change.
    for alone in [true, false] {
        if !alone {
            secgroup.ok("block 192.0.2.0/24");
        }
        let pins_of = [0, 1].map(|step| {
            secgroup.ok(&format!("{} {client}", ["unblock --if-exists", "block"][step]));
            pins(secgroup.pin_dir())
        });
        let current = std::cell::Cell::new(stored());
        let line = || {
            let verb = if current.get() == 0 { "block" } else { "unblock" };
            [verb.to_owned(), client.to_string()].to_vec()
        };
        kill_at_every_moment(&secgroup, line, |when| {
            let (old, new) = (current.get(), stored());
            let is_new = is_new_policy(&probe, [&policies[old], &policies[1 - old]], when);
            assert!(!is_new || new != old, "{when}: in force and not stored");
            secgroup.ok("reconcile");
            assert_eq!(stored(), new, "{when}");
            assert_eq!(probe.reachable(), policies[new], "{when}, after reconcile");
            assert_eq!(pins(secgroup.pin_dir()), pins_of[new], "{when}");
            current.set(new);
        });
    }
}
