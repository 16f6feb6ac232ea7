//! Port security against the model, with random packets.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Orientation;
use firewall_ebpf::abi::reason::Reason;
use secgroup_tests::decision::model::Model;
use secgroup_tests::decision::random::{Event, sequences};
use secgroup_tests::decision::rules::compiled;
use secgroup_tests::decision::{
    Engine as _, Host, Peer, Scenario, Setup, Traffic, allow, allow_reverse,
};

#[test]
fn port_security_drops_what_the_model_drops() {
    let rules = [allow(Traffic::All, Peer::Any), allow_reverse(Traffic::All, Peer::Any)];
    let scenario = Scenario::all()[0];
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut setups = Setup::ports(Orientation::Guest).into_iter().cycle();
    for events in sequences(10).take(1000) {
        let setup = setups.next().expect("a cycle");
        let mut host = Host::of(&setup);
        host.reset(Some(&compiled(&rules, &scenario)));
        // Of the model only the check before its rules is used here.
        let mut model = Model::new(Vec::new(), false, setup.port);
        for event in events {
            let Event::Frame(frame, direction) = event else { continue };
            let Some(expected) = model.decide(&frame, direction) else { continue };
            let reason = host.decide(&frame, direction).expect("the host decides all");
            let of_port = |reason| Some(reason).filter(|one| Model::is_port_security(*one));
            assert_eq!(
                of_port(reason),
                of_port(expected),
                "{:?} {} {frame:02x?}: {reason:?}, {expected:?}",
                setup.port,
                direction.name()
            );
            *counts.entry(of_port(reason).map_or("none", Reason::name)).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert_eq!(counts.len(), 8, "every reason: {counts:?}");
}
