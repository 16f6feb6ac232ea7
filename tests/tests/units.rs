//! The unit files of `dist/systemd`: systemd accepts them, and they are ordered before the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use secgroup_tests::root;
use secgroup_tests::secgroup::{CommandOutput, binary};
use secgroup_tests::systemd::Systemd;
use secgroup_tests::wait::{MAX_WAIT, wait_until};

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
    // Tenths; without the confinement it is 92.
    let security = ["security", "--offline=yes", "--no-pager", "--threshold=34"];
    for file in &files {
        let answer = CommandOutput::of(Command::new("systemd-analyze").args(security).arg(file));
        assert_eq!(answer.code, Some(0), "{answer}");
    }
    let answer = verify(&files.each_ref().map(PathBuf::as_path));
    assert_eq!((answer.code, &*answer.stderr), (Some(0), ""), "{answer}");

    // The check works: systemd reports a directive that it does not know.
    let wrong = directory.path().join("wrong.service");
    let text = fs::read_to_string(&files[0]).expect("the unit");
    fs::write(&wrong, text.replace("[Service]", "[Service]\nNoSuchDirective=1")).expect("a unit");
    assert!(verify(&[&wrong]).stderr.contains("NoSuchDirective"));
}

/// What the kernel and systemd enforce on the process, so that a later change of the units is seen.
#[test]
fn the_units_are_confined() {
    for name in UNITS {
        let unit = unit(name);
        let has = |directive: &str, value: &str| {
            assert!(values(&unit, directive).contains(&value), "{name}: no {directive}={value}");
        };
        for directive in [
            "NoNewPrivileges",
            "ProtectHome",
            "ProtectKernelModules",
            "ProtectKernelLogs",
            "ProtectControlGroups",
            "ProtectClock",
            "ProtectHostname",
            "MemoryDenyWriteExecute",
            "RestrictRealtime",
            "RestrictSUIDSGID",
            "LockPersonality",
        ] {
            has(directive, "yes");
        }
        has("ProtectSystem", "strict");
        has("SystemCallArchitectures", "native");
        has("SystemCallFilter", "@system-service");
        has("UMask", "0077");
        assert!(!values(&unit, "Documentation").is_empty(), "{name}");
    }
    let serve = unit(UNITS[1]);
    assert_eq!(values(&serve, "Type"), ["notify"]);
    assert!(!values(&serve, "ExecReload").is_empty());
    assert!(!values(&serve, "WatchdogSec").is_empty());
    assert_eq!(values(&serve, "RuntimeDirectoryMode"), ["0750"]);
}

/// With the confinement of the units, by a systemd of its own: everything that the commands and `serve` need works.
#[test]
fn a_real_systemd_runs_the_units() {
    let systemd = Systemd::start(&UNITS.map(|name| (name, unit(name))));
    let show = |what: &str| {
        systemd.ok(&format!("systemctl show secgroup --value --property {what}")).trim().to_owned()
    };
    let id = show("MainPID");
    // The filter of system calls, no new privileges, and four capabilities.
    let status = systemd.ok(&format!("cat /proc/{id}/status"));
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapBnd:\t000000c000201000"] {
        assert!(status.contains(line), "{line} in {status}");
    }

    // Devices here and in a namespace, which `serve` has to enter.
    let device = "ip link add d0 type veth peer name d1 && ip link set d0 up";
    let boxed = "ip -n box link add b0 type veth peer name b1 && ip -n box link set b0 up";
    systemd.ok(&format!("ip netns add box && {device} && {boxed}"));
    systemd.ok("secgroup group create g --description x");
    systemd.ok("secgroup attach d0 --group g --hook clsact");
    systemd.ok("secgroup attach b0 --netns box --group g");
    // It subscribes in the namespace within some seconds.
    wait_until(MAX_WAIT, "devices that come and go to be attached", || {
        let began = Instant::now();
        systemd.ok(&format!("ip link delete d0; ip -n box link delete b0; {device}; {boxed}"));
        wait_until(MAX_WAIT, "both to be attached", || {
            let status = systemd.shell("secgroup status");
            let is_done = status.stdout.matches(" enforcing ").count() == 2;
            if !is_done && began.elapsed() > MAX_WAIT / 2 {
                panic!("{status}\n{}", systemd.log());
            }
            is_done
        });
        let log = systemd.log();
        log.contains("secgroup: d0 appeared: attached, clsact")
            && log.contains("secgroup: box/b0 appeared: attached, ")
    });
    systemd.ok("tc qdisc del dev d0 clsact");
    wait_until(MAX_WAIT, "the repair", || systemd.log().contains("d0 repaired: attached, clsact"));
    let scrape = "exec 3<>/dev/tcp/127.0.0.1/9911; printf 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n' >&3; cat <&3";
    let text = systemd.ok(scrape);
    assert!(text.contains("secgroup_enforcing{interface=\"d0\"} 1"), "{text}");

    systemd.ok("systemctl reload secgroup");
    wait_until(MAX_WAIT, "the reload", || systemd.log().contains("configuration reloaded"));
    assert_eq!((show("ActiveState"), show("MainPID")), ("active".to_owned(), id));

    // The process that waits for a deadline outlives the service whose command it was, in a unit of its own.
    let rules = "secgroup rule list g";
    let before = systemd.ok(rules);
    systemd.ok(
        "systemd-run --quiet --unit=change secgroup rule add g ingress --protocol tcp --port 80 --cidr 0.0.0.0/0 \
         --confirm 8s",
    );
    wait_until(MAX_WAIT, "the service to end", || {
        systemd.shell("systemctl is-active change").stdout.trim() == "inactive"
    });
    assert_ne!(systemd.ok(rules), before);
    // Nobody else can roll back.
    systemd.ok("systemctl stop secgroup");
    assert_eq!((show("Result"), show("ExecMainStatus")), ("success".to_owned(), "0".to_owned()));
    let scopes =
        systemd.ok("systemctl list-units --plain --no-legend --state=running 'run-*.scope'");
    assert!(scopes.contains("secgroup: rolls an unconfirmed change back"), "{scopes}");
    let database = "sha256sum < /var/lib/secgroup/secgroup.db-wal; ls -l /var/lib/secgroup";
    let pending = systemd.shell(database).stdout;
    wait_until(MAX_WAIT, "the scope to end", || {
        systemd
            .ok("systemctl list-units --plain --no-legend --state=running 'run-*.scope'")
            .is_empty()
    });
    assert_ne!(systemd.shell(database).stdout, pending);
    assert_eq!(systemd.ok(rules), before);
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
