//! Not root, or not all of root.

use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::{Pair, Secgroup, tc_hook};

use super::{CHANGES, operation, refused, unchanged};

const HINT: &str = "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (systemd: \
                    AmbientCapabilities=)";

/// Starts a command with the three that are needed.
const FEW: [&str; 2] = ["setpriv", "--bounding-set=-all,+bpf,+perfmon,+net_admin"];

#[test]
fn the_capability_that_is_missing_is_named() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let without = |dropped: &str, line: &str| {
        let set = format!("--bounding-set={dropped}");
        CommandOutput::of(&mut secgroup.command_under(&["setpriv", &set], line))
    };
    unchanged(&secgroup, &net.server, || {
        for line in CHANGES {
            let is_about_maps = line.starts_with("rule") || line.starts_with("flows");
            for (dropped, missing) in [
                ("-bpf,-sys_admin", "CAP_BPF, needed to load programs and make maps"),
                (
                    "-perfmon,-sys_admin",
                    "CAP_PERFMON, needed to load programs that calculate with pointers",
                ),
                ("-net_admin", "CAP_NET_ADMIN, needed to attach programs to an interface"),
            ] {
                if is_about_maps && !missing.starts_with("CAP_BPF") {
                    continue;
                }
                let error = format!("{}: missing capability {missing}", operation(line));
                refused(&without(dropped, line), 1, &error, HINT);
            }
        }
    });
    // What only reads needs none of them.
    for line in ["status", "stats", "flows list", "metrics", "rule list", "export"] {
        let answer = without("-bpf,-perfmon,-net_admin,-sys_admin", line);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn three_capabilities_are_enough() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let few = |line: &str| {
        let answer = CommandOutput::of(&mut secgroup.command_under(&FEW, line));
        assert_eq!(answer.code, Some(0), "{line}: {answer}");
    };
    few("group create web --description x");
    for hook in [tc_hook(), "xdp", "clsact", "xdp-generic"] {
        few(&format!("attach eth0 --group web --hook {hook}"));
    }
    few("rule add web ingress --protocol tcp --port 443 --cidr 10.0.0.0/8");
    few("reconcile");
    few("status");
    few("flows flush");
    few("detach eth0");
    // Another namespace is more than they give.
    let there = net.client.name();
    let line = format!("attach eth0 --group web --netns {there}");
    let answer = unchanged(&secgroup, &net.server, || {
        CommandOutput::of(&mut secgroup.command_under(&FEW, &line))
    });
    let error =
        format!("attach eth0: enter network namespace {there:?}: EPERM: Operation not permitted");
    refused(&answer, 1, &error, "entering a namespace needs CAP_SYS_ADMIN");
}
