//! A server's device as a network card works: the kernel polls it for packets (NAPI), here in a
//! thread of the kernel, so that what receiving costs is that thread's time and nothing else.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::scheduler::{kernel_threads, ran};
use crate::process::{output, output_or_error};
use crate::socket::{Offload, set_offload};
use crate::{Namespace, Pair};

/// Receives for as long as it lives. Afterwards the device is again as veth comes: what is sent to
/// it, the sender's CPU receives at once, for which TCP is the faster.
pub(super) struct Receiver<'a>(&'a Namespace);

impl<'a> Receiver<'a> {
    /// Starts the thread, on CPU 0.
    #[must_use]
    pub(super) fn start(server: &'a Namespace) -> Self {
        // A veth is polled while it merges segments, which is also what lets generated frames in.
        set_offload(server, Pair::DEVICE, Offload::Receive, true);
        let receiver = Self(server);
        receiver.set_threaded(true);
        let mut first = CpuSet::new();
        first.set(0).expect("there is a CPU 0");
        for thread in threads() {
            let id = thread.file_name().and_then(|id| id.to_str()?.parse().ok());
            let id = Pid::from_raw(id.expect("a thread's number"));
            let pinned = sched_setaffinity(id, &first).map_err(|error| error.to_string());
            // Ahead of who generates on the same CPU, else there is no room for what comes next.
            let mut chrt = Command::new("chrt");
            chrt.args(["--fifo", "--pid", "1", &id.to_string()]);
            let done = pinned.and_then(|()| output_or_error(&mut chrt).map(drop));
            // The thread of another device may have ended meanwhile.
            assert!(done.is_ok() || !thread.exists(), "schedule {}: {done:?}", thread.display());
        }
        receiver
    }

    /// How long such threads ran so far; one works at a time.
    #[must_use]
    pub(super) fn time(&self) -> Duration {
        threads().iter().map(|thread| ran(thread)).sum()
    }

    fn set_threaded(&self, on: bool) {
        // Devices are seen in the sysfs of their namespace, which `ip netns exec` mounts.
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
