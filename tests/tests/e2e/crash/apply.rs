//! Changes of several rules on an attached interface.

use std::fs;

use secgroup_tests::{Pair, Secgroup};

use super::policies::Probe;
use super::{is_new_policy, kill_at_every_moment, pins, state};

/// Two policies that have some rules in common.
const POLICIES: [(&[u16], &[u16]); 2] =
    [(&[1001, 1002, 1003], &[2001, 2002]), (&[1003, 1004, 1005], &[2002, 2003])];

#[test]
fn apply_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let probe = Probe::new(&net, &secgroup);
    let documents = write_documents(&secgroup);
    let policies = POLICIES.map(|(inbound, outbound)| probe.expected(inbound, outbound));
    secgroup.ok("attach eth0 --group web");
    // The index of the stored policy.
    let stored = || {
        let is_stored = |at: &usize| {
            let line = ["apply", "--dry-run", &documents[*at]];
            secgroup.run(line).code == Some(0)
        };
        (0..2).find(is_stored).expect("one of the documents is stored")
    };
    let expected_pins = pins(secgroup.pin_dir());
    let current = std::cell::Cell::new(stored());
    let line = || {
        let other = 1 - current.get();
        ["apply", &documents[other]].map(str::to_owned).to_vec()
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

/// Exports a document for each policy; the last one stays stored.
fn write_documents(secgroup: &Secgroup<'_>) -> [String; 2] {
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let cidrs = "--cidr 10.77.0.0/24 --cidr fd77::/64";
    let edit_rules = |verb: &str, (inbound, outbound): (&[u16], &[u16])| {
        for (direction, ports) in [("ingress", inbound), ("egress", outbound)] {
            for port in ports {
                let rule = format!("{direction} --protocol udp --port {port} {cidrs}");
                secgroup.ok(&format!("rule {verb} web {rule}"));
            }
        }
    };
    [0, 1].map(|at| {
        if at == 1 {
            edit_rules("remove", POLICIES[0]);
        }
        edit_rules("add", POLICIES[at]);
        let file = secgroup.state_dir().join(format!("policy{at}.json"));
        fs::write(&file, secgroup.ok("export")).unwrap();
        file.to_str().unwrap().to_owned()
    })
}
