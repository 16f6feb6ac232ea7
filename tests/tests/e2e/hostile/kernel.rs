//! Kernels that lack something.

use secgroup_tests::seccomp::without_bpf;
use secgroup_tests::secgroup::Answer;
use secgroup_tests::{Pair, Secgroup};

use super::{operation, refused, unchanged};

// Commands of bpf(2).
const MAP_CREATE: u32 = 0;
const PROG_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;

#[test]
fn what_the_kernel_lacks_is_named_before_anything_changes() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    unchanged(&secgroup, &net.server, || {
        for (lacking, errno, what) in [
            (Some(LINK_CREATE), libc::EINVAL, "TCX"),
            (Some(MAP_CREATE), libc::EINVAL, "LRU hash maps"),
            (Some(PROG_LOAD), libc::EINVAL, "XDP programs"),
            (None, libc::ENOSYS, "bpf system call"),
        ] {
            for line in ["attach eth0 --group web", "reconcile"] {
                let mut command = secgroup.command(line.split(' '));
                without_bpf(&mut command, lacking, errno);
                refused(
                    &Answer::of(&mut command),
                    1,
                    &format!("{}: this kernel has no {what}", operation(line)),
                    "secgroup needs Linux 6.6 or newer with CONFIG_BPF_SYSCALL and CONFIG_NET; \
                     `uname -r` tells the running one",
                );
            }
        }
    });
}
