//! Kernels without a required feature, and system calls that fail.

use secgroup_tests::seccomp::without_bpf;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::{Pair, Secgroup};

use super::{assert_refused, assert_unchanged, operation};

// Commands of bpf(2).
const MAP_CREATE: u32 = 0;
const MAP_UPDATE: u32 = 2;
const PROG_LOAD: u32 = 5;
const OBJ_PIN: u32 = 6;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;

#[test]
fn a_missing_kernel_feature_is_named_before_anything_changes() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    assert_unchanged(&secgroup, &net.server, || {
        for (failing, errno, feature) in [
            (Some(MAP_CREATE), libc::EINVAL, "LRU hash maps"),
            (Some(PROG_LOAD), libc::EINVAL, "XDP programs"),
            (None, libc::ENOSYS, "bpf system call"),
        ] {
            for line in ["attach eth0 --group web", "reconcile"] {
                let mut command = secgroup.command(line.split(' '));
                without_bpf(&mut command, failing, errno);
                assert_refused(
                    &CommandOutput::of(&mut command),
                    1,
                    &format!("{}: this kernel has no {feature}", operation(line)),
                    "secgroup needs CONFIG_BPF_SYSCALL and CONFIG_NET, and is tested on Linux 6.1 \
                     and newer; `uname -r` prints the running one",
                );
            }
        }
    });
}

/// A security module or a lack of memory may make any step fail.
#[test]
fn a_system_call_that_fails_leaves_the_state_unchanged() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    net.server.ip("link add eth1 type veth peer name eth2");
    let not_permitted = "root is refused: kernel lockdown, a security module or the \
                     seccomp profile of a container forbids it";
    let out_of_memory = "the maps did not fit in memory: make [maps] smaller in the configuration, or \
                  raise the memory limit of the unit or container";
    let attach_fails = |device: &str, hook: &str, step: u32, errno: i32, hint: &str| {
        let line = format!("attach {device} --group web --hook {hook}");
        let mut command = secgroup.command(line.split(' '));
        without_bpf(&mut command, Some(step), errno);
        let answer = assert_unchanged(&secgroup, &net.server, || CommandOutput::of(&mut command));
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{answer}");
        let lines: Vec<_> = answer.stderr.lines().collect();
        let [error, hint_line] = lines[..] else { panic!("{answer}") };
        assert!(error.starts_with(&format!("error: attach {device}: ")), "{error}");
        assert!(error.ends_with(&format!("(os error {errno})")), "{error}");
        assert_eq!(hint_line, format!("hint: {hint}"), "{error}");
    };
    let at_every_step = || {
        for hook in ["tcx", "xdp"] {
            attach_fails("eth1", hook, MAP_CREATE, libc::ENOMEM, out_of_memory);
            attach_fails("eth1", hook, MAP_UPDATE, libc::ENOMEM, out_of_memory);
            attach_fails("eth1", hook, OBJ_PIN, libc::EPERM, not_permitted);
            attach_fails("eth1", hook, LINK_CREATE, libc::EPERM, not_permitted);
        }
    };
    at_every_step();
    // The same with maps and another interface attached.
    secgroup.ok("attach eth0 --group web --hook tcx");
    at_every_step();
    // A change of hook ends with the transmit program.
    for (from, to) in [("tcx", "xdp"), ("xdp", "tcx")] {
        secgroup.ok(&format!("attach eth0 --group web --hook {from}"));
        for step in [OBJ_PIN, LINK_CREATE, LINK_UPDATE] {
            attach_fails("eth0", to, step, libc::EPERM, not_permitted);
        }
    }
}
