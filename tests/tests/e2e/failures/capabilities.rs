//! Commands without root's capabilities.

use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::{Pair, Secgroup, tc_hook};

use super::{CHANGES, assert_refused, assert_unchanged, operation};

const HINT: &str = "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (systemd: \
                    AmbientCapabilities=)";

/// Starts a command with the three required capabilities.
const THREE_CAPABILITIES: [&str; 2] = ["setpriv", "--bounding-set=-all,+bpf,+perfmon,+net_admin"];

#[test]
fn a_missing_capability_is_named() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let without = |dropped: &str, line: &str| {
        let set = format!("--bounding-set={dropped}");
        CommandOutput::of(&mut secgroup.command_under(&["setpriv", &set], line))
    };
    assert_unchanged(&secgroup, &net.server, || {
        for line in CHANGES {
            let needs_maps_only = line.starts_with("rule") || line.starts_with("flows");
            for (dropped, missing) in [
                ("-bpf,-sys_admin", "CAP_BPF, needed to load programs and create maps"),
                (
                    "-perfmon,-sys_admin",
                    "CAP_PERFMON, needed to load programs with pointer arithmetic",
                ),
                ("-net_admin", "CAP_NET_ADMIN, needed to attach programs to an interface"),
            ] {
                if needs_maps_only && !missing.starts_with("CAP_BPF") {
                    continue;
                }
                let error = format!("{}: missing capability {missing}", operation(line));
                assert_refused(&without(dropped, line), 1, &error, HINT);
            }
        }
    });
    // Commands that only read need none of them.
    for line in ["status", "stats", "flows list", "metrics", "rule list", "export"] {
        let answer = without("-bpf,-perfmon,-net_admin,-sys_admin", line);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn three_capabilities_are_enough() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let run_with_three = |line: &str| {
        let answer = CommandOutput::of(&mut secgroup.command_under(&THREE_CAPABILITIES, line));
        assert_eq!(answer.code, Some(0), "{line}: {answer}");
    };
    run_with_three("group create web --description x");
    for hook in [tc_hook(), "xdp", "clsact", "xdp-generic"] {
        run_with_three(&format!("attach eth0 --group web --hook {hook}"));
    }
    run_with_three("rule add web ingress --protocol tcp --port 443 --cidr 10.0.0.0/8");
    run_with_three("reconcile");
    run_with_three("status");
    run_with_three("flows flush");
    run_with_three("detach eth0");
    // Another network namespace needs a further capability.
    let namespace = net.client.name();
    let line = format!("attach eth0 --group web --netns {namespace}");
    let answer = assert_unchanged(&secgroup, &net.server, || {
        CommandOutput::of(&mut secgroup.command_under(&THREE_CAPABILITIES, &line))
    });
    let error = format!(
        "attach eth0: enter network namespace {namespace:?}: EPERM: Operation not permitted"
    );
    assert_refused(&answer, 1, &error, "entering a namespace needs CAP_SYS_ADMIN");
}
