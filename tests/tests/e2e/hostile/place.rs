//! Places that are not there, or not what they should be.

use std::fs;

use firewall_ebpf::limits::ABI_VERSION;
use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};
use tempfile::TempDir;

use super::{CHANGES, operation, refused, unchanged};

const MOUNT: &str = "mount one with `mount -t bpf bpf /sys/fs/bpf`; inside `ip netns exec` the \
                     real one is hidden: stay outside and use --netns, or enter with `nsenter \
                     --net=/var/run/netns/NAME`";

#[test]
fn pins_need_a_bpf_file_system() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let elsewhere = TempDir::new().unwrap();
    let pins = elsewhere.path().join("not/there");
    unchanged(&secgroup, &net.server, || {
        let mut command = secgroup.command(["attach", "eth0", "--group", "web"]);
        let answer = CommandOutput::of(command.arg("--pin-dir").arg(&pins));
        let error =
            format!("attach eth0: pin directory {}: not in a BPF file system", pins.display());
        refused(&answer, 1, &error, MOUNT);
    });
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn pins_that_are_out_of_sight_are_not_taken_for_none() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let hidden = ["ip", "netns", "exec", net.server.name()];
    unchanged(&secgroup, &net.server, || {
        for line in CHANGES.into_iter().chain(["detach --all", "status", "stats", "flows list"]) {
            let answer = CommandOutput::of(&mut secgroup.command_under(&hidden, line));
            let pins = secgroup.pin_dir().display();
            let error =
                format!("{}: pin directory {pins}: not in a BPF file system", operation(line));
            refused(&answer, 1, &error, MOUNT);
        }
    });
}

#[test]
fn devices_and_namespaces_have_to_exist() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let devices = "`ip link` lists the devices; --netns names another network namespace";
    let namespaces =
        "`ip netns list` shows the named ones; `ip netns attach NAME PID` names another";
    let there = net.client.name();
    let long = "a-name-of-more-than-15-bytes";
    unchanged(&secgroup, &net.server, || {
        for (arguments, error, hint) in [
            ("eth7", "interface eth7: no such device".to_owned(), devices),
            (long, format!("interface {long}: no such device"), devices),
            (
                &format!("eth7 --netns {there}"),
                format!("interface eth7: no such device in namespace {there}"),
                devices,
            ),
            (
                "eth0 --netns nowhere",
                "network namespace nowhere: /var/run/netns/nowhere: No such file or directory \
                 (os error 2)"
                    .to_owned(),
                namespaces,
            ),
            (
                "eth0 --netns ../../proc/version",
                "enter network namespace \"../../proc/version\": EINVAL: Invalid argument"
                    .to_owned(),
                namespaces,
            ),
        ] {
            let answer = secgroup.run(format!("attach {arguments} --group web").split(' '));
            let device = arguments.split(' ').next().unwrap();
            refused(&answer, 3, &format!("attach {device}: {error}"), hint);
        }
    });
}

#[test]
fn pins_of_another_version_are_left_to_their_own_build() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 0)[0]);
    let other = secgroup.pin_dir().join("v999");
    fs::create_dir_all(other.join("maps")).unwrap();
    unchanged(&secgroup, &net.server, || {
        for line in CHANGES.into_iter().chain(["detach --all", "status", "stats", "metrics"]) {
            let error = format!(
                "{}: pins of another version in {} (this build has version {ABI_VERSION})",
                operation(line),
                other.display()
            );
            let hint = format!(
                "they still enforce: `rm -r {}` ends that, and `secgroup reconcile` right after \
                 it starts anew from what is stored; or go on with the build that made them",
                other.display()
            );
            refused(&secgroup.run(line.split(' ')), 1, &error, &hint);
        }
    });
    assert!(!tcp::reaches(&net.client, server.address()), "what was in force is");
    fs::remove_dir_all(&other).unwrap();
    // As the hint says, which leaves what is stored.
    secgroup.ok("reconcile");
    secgroup.ok("detach --all");

    // Nor are they passed over where nothing of this version is attached.
    fs::create_dir_all(&other).unwrap();
    assert!(secgroup.refused("detach --all", 1).contains("pins of another version"));
    fs::remove_dir_all(&other).unwrap();
}

#[test]
fn what_a_lost_store_left_enforced_is_told_and_can_be_taken_off() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 0)[0]);
    for (command, said) in [
        ("detach --all", "slot 0: detached, was not stored\n"),
        ("reconcile", "slot 0: no longer enforced, for it is not stored\n"),
    ] {
        secgroup.ok("group create web --description x");
        secgroup.ok("attach eth0 --group web");
        fs::remove_dir_all(secgroup.state_dir()).unwrap();
        assert!(!tcp::reaches(&net.client, server.address()));
        let status = secgroup.ok("status");
        assert!(
            status.contains(
                "slot 0: enforcing, but not stored: restore the store, or `secgroup detach --all`"
            ),
            "{status}"
        );
        assert_eq!(secgroup.json("status")["StraySlots"], serde_json::json!([0]));
        assert_eq!(secgroup.ok(command), said);
        assert!(tcp::reaches(&net.client, server.address()));
        assert_eq!(secgroup.run(["status"]).stdout, "nothing is attached\n");
        fs::remove_dir_all(secgroup.state_dir()).unwrap();
    }
}
