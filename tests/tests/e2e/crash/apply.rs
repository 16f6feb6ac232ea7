//! A change of several rules of an interface that is attached.

use std::fs;

use secgroup_tests::{Pair, Secgroup};

use super::policies::Probe;
use super::{at_every_moment, is_after, pins, state};

/// Two policies that have some rules in common.
const POLICIES: [(&[u16], &[u16]); 2] =
    [(&[1001, 1002, 1003], &[2001, 2002]), (&[1003, 1004, 1005], &[2002, 2003])];

#[test]
fn apply_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let probe = Probe::new(&net, &secgroup);
    let documents = write_documents(&secgroup);
    let policies = POLICIES.map(|(inward, outward)| probe.of(inward, outward));
    secgroup.ok("attach eth0 --group web");
    // Of the two, the one that the store has, which is the last that was written.
    let stored = || {
        let is = |at: &usize| {
            let line = ["apply", "--dry-run", &documents[*at]];
            secgroup.run(line).code == Some(0)
        };
        (0..2).find(is).expect("one of the documents is stored")
    };
    let undisturbed = pins(secgroup.pin_dir());
    let current = std::cell::Cell::new(stored());
    let line = || {
        let other = 1 - current.get();
        ["apply", &documents[other]].map(str::to_owned).to_vec()
    };
    at_every_moment(&secgroup, line, |when| {
        let (was, now) = (current.get(), stored());
        let changed = is_after(&probe, [&policies[was], &policies[1 - was]], when);
        assert!(!changed || now != was, "{when}: in force and not stored");
        secgroup.ok("reconcile");
        assert_eq!(stored(), now, "{when}");
        assert_eq!(probe.ask(), policies[now], "{when}, after reconcile");
        assert_eq!(state(&secgroup).as_deref(), Some("enforcing"), "{when}");
        assert_eq!(pins(secgroup.pin_dir()), undisturbed, "{when}");
        current.set(now);
    });
}

/// A document for each of the policies; the last is stored.
fn write_documents(secgroup: &Secgroup<'_>) -> [String; 2] {
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let cidrs = "--cidr 10.77.0.0/24 --cidr fd77::/64";
    let edit = |verb: &str, (inward, outward): (&[u16], &[u16])| {
        for (direction, ports) in [("ingress", inward), ("egress", outward)] {
            for port in ports {
                let rule = format!("{direction} --protocol udp --port {port} {cidrs}");
                secgroup.ok(&format!("rule {verb} web {rule}"));
            }
        }
    };
    [0, 1].map(|at| {
        if at == 1 {
            edit("remove", POLICIES[0]);
        }
        edit("add", POLICIES[at]);
        let file = secgroup.state_dir().join(format!("policy{at}.json"));
        fs::write(&file, secgroup.ok("export")).unwrap();
        file.to_str().unwrap().to_owned()
    })
}
