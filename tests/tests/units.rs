//! The unit files of `dist/systemd`: systemd accepts them, and they are ordered before the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use secgroup_tests::root;
use secgroup_tests::secgroup::{CommandOutput, binary};

const UNITS: [&str; 2] = ["secgroup-reconcile.service", "secgroup.service"];

/// The binary's path in the units. A test machine has no binary there.
const INSTALLED: &str = "/usr/local/sbin/secgroup";

fn unit(name: &str) -> String {
    let path = root().join("dist/systemd").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Every value of a directive in a unit.
fn values<'a>(unit: &'a str, directive: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

#[test]
fn systemd_accepts_the_units_without_a_warning() {
    let directory = tempfile::tempdir().expect("make a directory");
    let binary = binary();
    let files = UNITS.map(|name| {
        let text = unit(name);
        assert!(text.contains(INSTALLED), "{name} starts something else");
        let file = directory.path().join(name);
        let binary = binary.to_str().expect("a path of text");
        fs::write(&file, text.replace(INSTALLED, binary)).expect("write a unit");
        file
    });
    let verify = |files: &[&Path]| {
        CommandOutput::of(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(files))
    };
    let answer = verify(&files.each_ref().map(PathBuf::as_path));
    assert_eq!((answer.code, &*answer.stderr), (Some(0), ""), "{answer}");

    // The check works: systemd reports a directive that it does not know.
    let wrong = directory.path().join("wrong.service");
    let text = fs::read_to_string(&files[0]).expect("the unit");
    fs::write(&wrong, text.replace("[Service]", "[Service]\nNoSuchDirective=1")).expect("a unit");
    assert!(verify(&[&wrong]).stderr.contains("NoSuchDirective"));
}

#[test]
fn the_units_start_before_the_network_and_after_their_mounts() {
    for name in UNITS {
        let unit = unit(name);
        let has = |directive: &str, value: &str| {
            assert!(values(&unit, directive).contains(&value), "{name}: no {directive}={value}");
        };
        has("DefaultDependencies", "no");
        has("Before", "network-pre.target");
        // Without it nothing may start that target, and then the order has no effect.
        has("Wants", "network-pre.target");
        has("After", "local-fs.target");
        for place in ["/var/lib/secgroup", "/etc/secgroup", "/sys/fs/bpf"] {
            has("RequiresMountsFor", place);
        }
        has("Conflicts", "shutdown.target");
        has("Before", "shutdown.target");
        has("ReadWritePaths", "/sys/fs/bpf");
        has("StateDirectory", "secgroup");
        has("WantedBy", "sysinit.target");
        for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"] {
            has("CapabilityBoundingSet", capability);
        }
    }
    assert!(values(&unit(UNITS[0]), "After").contains(&"sys-fs-bpf.mount"));
    assert!(values(&unit(UNITS[1]), "After").contains(&UNITS[0]));
}
