//! The first attach of an interface, and its last detach.

use std::cell::Cell;

use secgroup_tests::{Pair, Secgroup};

use super::policies::{Probe, Reachable};
use super::{is_new_policy, kill_at_every_moment, pins, state};

/// Creates a group; returns a probe and the ends that the group's rules allow.
fn create_group<'a>(net: &'a Pair, secgroup: &Secgroup<'_>) -> (Probe<'a>, Reachable) {
    let probe = Probe::new(net, secgroup);
    let cidrs = "--cidr 10.77.0.0/24 --cidr fd77::/64";
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("rule add web ingress --protocol udp --port 1001-1002 {cidrs}"));
    secgroup.ok(&format!("rule add web egress --protocol udp --port 2001 {cidrs}"));
    let with_rules = probe.expected(&[1001, 1002], &[2001]);
    (probe, with_rules)
}

fn is_stored(secgroup: &Secgroup<'_>) -> bool {
    state(secgroup).is_some()
}

#[test]
fn a_first_attach_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let (probe, with_rules) = create_group(&net, &secgroup);
    let all = probe.all();
    secgroup.ok("attach eth0 --group web");
    let expected_pins = pins(secgroup.pin_dir());
    secgroup.ok("detach eth0");
    let line = || ["attach", "eth0", "--group", "web"].map(str::to_owned).to_vec();
    kill_at_every_moment(&secgroup, line, |when| {
        let stored = is_stored(&secgroup);
        let is_attached = is_new_policy(&probe, [&all, &with_rules], when);
        assert!(!is_attached || stored, "{when}: active and not stored");
        secgroup.ok("reconcile");
        assert_eq!(is_stored(&secgroup), stored, "{when}");
        let (reachable, wanted) =
            if stored { (&with_rules, &expected_pins[..]) } else { (&all, &[][..]) };
        assert_eq!(probe.reachable(), *reachable, "{when}, after reconcile");
        assert_eq!(pins(secgroup.pin_dir()), wanted, "{when}");
        if stored {
            assert_eq!(state(&secgroup).as_deref(), Some("enforcing"), "{when}");
            secgroup.ok("detach eth0");
        }
    });
}

#[test]
fn a_detach_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let (probe, with_rules) = create_group(&net, &secgroup);
    let all = probe.all();
    secgroup.ok("attach eth0 --group web");
    let expected_pins = pins(secgroup.pin_dir());
    let attached = Cell::new(true);
    let line = || {
        if !attached.replace(true) {
            secgroup.ok("attach eth0 --group web");
        }
        ["detach", "eth0"].map(str::to_owned).to_vec()
    };
    kill_at_every_moment(&secgroup, line, |when| {
        let stored = is_stored(&secgroup);
        // All or nothing. What is still stored is enforced again; a detach that the kernel has a record of is
        // completed.
        is_new_policy(&probe, [&with_rules, &all], when);
        secgroup.ok("reconcile");
        assert_eq!(is_stored(&secgroup), stored, "{when}");
        let (reachable, wanted) =
            if stored { (&with_rules, &expected_pins[..]) } else { (&all, &[][..]) };
        assert_eq!(probe.reachable(), *reachable, "{when}, after reconcile");
        assert_eq!(pins(secgroup.pin_dir()), wanted, "{when}");
        attached.set(stored);
    });
}
