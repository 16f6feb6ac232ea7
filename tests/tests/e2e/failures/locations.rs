//! Missing or unusable pin directories, devices, namespaces and stores.

use std::fs;
use std::path::Path;

use firewall_ebpf::abi::limits::ABI_VERSION;
use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};
use tempfile::TempDir;

use super::{CHANGES, assert_refused, assert_unchanged, operation};

const MOUNT: &str = "mount one with `mount -t bpf -o mode=0700 bpf /sys/fs/bpf`; inside `ip netns exec` the \
                     real one is hidden: stay outside and use --netns, or enter with `nsenter \
                     --net=/var/run/netns/NAME`";

#[test]
fn pins_outside_a_bpf_file_system_are_refused() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let other_directory = TempDir::new().unwrap();
    let pins = other_directory.path().join("not/there");
    assert_unchanged(&secgroup, &net.server, || {
        let mut command = secgroup.command(["attach", "eth0", "--group", "web"]);
        let answer = CommandOutput::of(command.arg("--pin-dir").arg(&pins));
        let error =
            format!("attach eth0: pin directory {}: not in a BPF file system", pins.display());
        assert_refused(&answer, 1, &error, MOUNT);
    });
    assert_eq!(fs::read_dir(other_directory.path()).unwrap().count(), 0);
}

#[test]
fn hidden_pins_are_not_treated_as_absent() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let hidden = ["ip", "netns", "exec", net.server.name()];
    assert_unchanged(&secgroup, &net.server, || {
        for line in CHANGES.into_iter().chain(["detach --all", "status", "stats", "flows list"]) {
            let answer = CommandOutput::of(&mut secgroup.command_under(&hidden, line));
            let pins = secgroup.pin_dir().display();
            let error =
                format!("{}: pin directory {pins}: not in a BPF file system", operation(line));
            assert_refused(&answer, 1, &error, MOUNT);
        }
    });
}

#[test]
fn missing_devices_and_namespaces_are_refused() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let devices = "`ip link` lists the devices; --netns names another network namespace";
    let namespaces =
        "`ip netns list` shows the named ones; `ip netns attach NAME PID` names another";
    let namespace = net.client.name();
    let long_name = "a-name-of-more-than-15-bytes";
    // A file where a namespace would be mounted.
    let no_namespace = format!("{namespace}-file");
    let file = Path::new("/var/run/netns").join(&no_namespace);
    fs::write(&file, "").unwrap();
    assert_unchanged(&secgroup, &net.server, || {
        for (arguments, error, hint) in [
            ("eth7", "interface eth7: no such device".to_owned(), devices),
            (long_name, format!("interface {long_name}: no such device"), devices),
            (
                &format!("eth7 --netns {namespace}"),
                format!("interface eth7: no such device in namespace {namespace}"),
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
                &format!("eth0 --netns {no_namespace}"),
                format!("enter network namespace \"{no_namespace}\": EINVAL: Invalid argument"),
                namespaces,
            ),
        ] {
            let answer = secgroup.run(format!("attach {arguments} --group web").split(' '));
            let device = arguments.split(' ').next().unwrap();
            assert_refused(&answer, 3, &format!("attach {device}: {error}"), hint);
        }
        let answer = secgroup.run("attach eth0 --netns ../../proc/version --group web".split(' '));
        let error = "attach eth0: \"../../proc/version\" is not the name of a network namespace";
        assert_refused(&answer, 2, error, "`ip netns list` shows the named ones");
    });
    fs::remove_file(&file).unwrap();
}

#[test]
fn pins_of_another_version_are_refused_and_unchanged() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 0)[0]);
    let other = secgroup.pin_dir().join("abi999");
    fs::create_dir_all(other.join("maps")).unwrap();
    assert_unchanged(&secgroup, &net.server, || {
        for line in CHANGES.into_iter().chain(["detach --all", "status", "stats", "metrics"]) {
            let error = format!(
                "{}: pins of another version in {} (this build has version {ABI_VERSION})",
                operation(line),
                other.display()
            );
            let hint = format!(
                "they still enforce: `rm -r {}` removes them, and `secgroup reconcile` right after it \
                 enforces the store again; in between every packet passes, or with clsact no new \
                 connection; or use the build that created them",
                other.display()
            );
            let mut answer = secgroup.run(line.split(' '));
            if line == "metrics" {
                // It prints what it has, and not that nothing is enforced.
                assert!(answer.stdout.contains("\nsecgroup_tables_readable 0\n"), "{answer}");
                assert!(answer.stdout.contains(",hook=\"\","), "{answer}");
                for unknown in ["enforcing", "device_present", "policy_generation"] {
                    let start = format!("\nsecgroup_{unknown}{{");
                    assert!(!answer.stdout.contains(&start), "{answer}");
                }
                answer.stdout.clear();
            }
            assert_refused(&answer, 1, &error, &hint);
        }
    });
    assert!(!tcp::reaches(&net.client, server.address()), "the policy stays active");
    fs::remove_dir_all(&other).unwrap();
    // The hint works, and the stored state is kept.
    secgroup.ok("reconcile");
    secgroup.ok("detach --all");

    // They are refused too while nothing of this version is attached.
    fs::create_dir_all(&other).unwrap();
    assert!(secgroup.refused("detach --all", 1).contains("pins of another version"));
    fs::remove_dir_all(&other).unwrap();
}

#[test]
fn a_slot_missing_from_the_store_is_reported_and_can_be_detached() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 0)[0]);
    for (command, output) in [
        ("detach --all", "slot 0: detached; it was not in the store\n"),
        ("reconcile", "slot 0: detached; it was not in the store\n"),
    ] {
        secgroup.ok("group create web --description x");
        let file = secgroup.state_dir().join("secgroup.db");
        let earlier = fs::read(&file).unwrap();
        secgroup.ok("attach eth0 --group web");
        // An earlier copy of the store is restored.
        fs::write(&file, earlier).unwrap();
        assert!(!tcp::reaches(&net.client, server.address()));
        let status = secgroup.ok("status");
        assert!(
            status.contains(
                "slot 0: enforcing, but not in the store, which may be an earlier copy: restore the \
                 later one, or run `secgroup reconcile`, which detaches the slot"
            ),
            "{status}"
        );
        assert_eq!(secgroup.json("status")["StraySlots"], serde_json::json!([0]));
        assert_eq!(secgroup.ok(command), output);
        assert!(tcp::reaches(&net.client, server.address()));
        assert_eq!(secgroup.run(["status"]).stdout, "nothing is attached\n");
        fs::remove_dir_all(secgroup.state_dir()).unwrap();
    }
}
