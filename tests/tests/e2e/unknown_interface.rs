//! Commands on an interface that is not attached.

use secgroup_tests::{Namespace, Pair, Secgroup};

#[test]
fn a_command_refuses_an_interface_that_is_not_attached() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    for (line, command, interface) in [
        ("detach eth1", "detach eth1", "eth1"),
        ("detach eth0 --netns vm1", "detach eth0", "vm1/eth0"),
        ("stats eth1", "stats", "eth1"),
        ("stats eth0 --netns vm1", "stats", "vm1/eth0"),
        ("status eth1", "status", "eth1"),
        ("flows list --interface eth1", "flows list", "eth1"),
        ("flows count --interface eth1", "flows count", "eth1"),
        ("flows flush --interface eth1", "flows flush", "eth1"),
    ] {
        let hint = match command.split(' ').next() {
            Some("flows") => "known: eth0",
            _ => "`secgroup status` shows the interfaces",
        };
        let expected = format!(
            "error: {command}: there is no attached interface \"{interface}\"\nhint: {hint}\n"
        );
        assert_eq!(secgroup.refused(line, 3), expected);
    }
}

#[test]
fn a_command_on_flows_is_refused_if_nothing_is_attached() {
    let namespace = Namespace::new();
    let secgroup = Secgroup::inside(&namespace);
    secgroup.ok("group create web --description x");
    for line in ["gc", "flows list", "flows count", "flows flush"] {
        let expected = format!("error: {line}: nothing is attached\n");
        let refusal = secgroup.refused(line, 3);
        assert!(refusal.starts_with(&expected), "{refusal}");
    }
}
