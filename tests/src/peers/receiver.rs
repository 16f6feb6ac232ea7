//! Lets a server's device receive as a network card does: the kernel polls it (NAPI), here in a
//! kernel thread (threaded NAPI), so that the CPU time of this thread is the cost of receiving.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::scheduler::{cpu_time, kernel_threads};
use crate::process::{output, output_or_error};
use crate::socket::{Offload, set_offload};
use crate::{Namespace, Pair};

/// Threaded NAPI on the server's device until this is dropped. Then veth is in its default mode
/// again, in which the sender's CPU receives packets at once; TCP is faster in it.
pub(super) struct Receiver<'a>(&'a Namespace);

impl<'a> Receiver<'a> {
    /// Starts the thread, on CPU 0.
    #[must_use]
    pub(super) fn start(server: &'a Namespace) -> Self {
        // A veth uses NAPI while GRO is on, which generated frames need too.
        set_offload(server, Pair::DEVICE, Offload::Receive, true);
        let receiver = Self(server);
        receiver.set_threaded(true);
        let mut first = CpuSet::new();
        first.set(0).expect("there is a CPU 0");
        for thread in threads() {
            let id = thread.file_name().and_then(|id| id.to_str()?.parse().ok());
            let id = Pid::from_raw(id.expect("a thread's id"));
            let pinned = sched_setaffinity(id, &first).map_err(|error| error.to_string());
            // A higher priority than the generator on the same CPU, otherwise the ring overflows.
            let mut chrt = Command::new("chrt");
            chrt.args(["--fifo", "--pid", "1", &id.to_string()]);
            let done = pinned.and_then(|()| output_or_error(&mut chrt).map(drop));
            // The thread of another device may have ended in the meantime.
            assert!(done.is_ok() || !thread.exists(), "schedule {}: {done:?}", thread.display());
        }
        receiver
    }

    /// The CPU time of such threads so far; one runs at a time.
    #[must_use]
    pub(super) fn time(&self) -> Duration {
        threads().iter().map(|thread| cpu_time(thread)).sum()
    }

    fn set_threaded(&self, on: bool) {
        // The sysfs of the namespace has the device; `ip netns exec` mounts it.
        let file = format!("/sys/class/net/{}/threaded", Pair::DEVICE);
        let write = format!("echo {} > {file}", u8::from(on));
        output(Command::new("ip").args(["netns", "exec", self.0.name(), "sh", "-c", &write]));
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.set_threaded(false);
        set_offload(self.0, Pair::DEVICE, Offload::Receive, false);
    }
}

/// The kernel's threads that receive for devices of this name, in any namespace.
fn threads() -> Vec<PathBuf> {
    kernel_threads(&format!("napi/{}-", Pair::DEVICE))
}
