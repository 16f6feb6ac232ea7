//! Network namespaces that are deleted when the test ends.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::process::{Process, output};
use crate::sweep;

/// A new network namespace with the loopback device up and no other device.
///
/// It is named, so that `secgroup attach --netns` and `ip netns exec` find it. Dropping it kills
/// the processes inside and deletes it with all its devices.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Creates a namespace.
    #[expect(clippy::new_without_default, reason = "a kernel object, not a value")]
    #[must_use]
    pub fn new() -> Self {
        sweep::once();
        let name = unique_name();
        output(Command::new("ip").args(["netns", "add", &name]));
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).unwrap_or_else(|error| panic!("open {path}: {error}"));
        let namespace = Self { name, file };
        namespace.disable_background_traffic();
        namespace.ip("link set lo up");
        namespace
    }

    /// The name of the namespace in `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` for this namespace, the arguments split at spaces; returns what it prints.
    pub fn ip(&self, arguments: &str) -> String {
        let arguments = arguments.split_whitespace();
        output(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Sets a kernel parameter of the namespace: `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        // A thread reads and writes the parameters of its own namespace.
        self.run(|| {
            fs::write(&path, value)
                .unwrap_or_else(|error| panic!("{}: write {value} to {path}: {error}", self.name));
        });
    }

    /// Runs a closure inside, on a new thread. Sockets that it creates stay in this namespace,
    /// also if another thread uses them afterwards.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
                    .unwrap_or_else(|error| panic!("enter namespace {}: {error}", self.name));
                work()
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// A command that will run inside. Unlike `ip netns exec`, which mounts a new sysfs, it sees
    /// `/sys/fs/bpf`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.enter(&mut command);
        command
    }

    /// Makes a command run inside.
    pub fn enter(&self, command: &mut Command) {
        let file = self.file.try_clone().expect("duplicate a namespace's descriptor");
        // SAFETY: between fork and exec only `setns` is called, which is a plain system call.
        unsafe {
            command.pre_exec(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
            });
        }
    }

    /// Starts a program inside; it is killed when the returned value is dropped.
    #[must_use]
    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Process {
        let mut command = self.command(program);
        command.args(arguments);
        Process::start(command)
    }

    /// Packets that a host sends unprompted would change counters that no test expects: disables
    /// duplicate address detection and router solicitation, and makes the kernel send multicast
    /// reports at once instead of within seconds.
    fn disable_background_traffic(&self) {
        for scope in ["all", "default"] {
            for (key, value) in [
                ("accept_dad", "0"),
                ("dad_transmits", "0"),
                ("router_solicitations", "0"),
                ("mldv1_unsolicited_report_interval", "1"),
                ("mldv2_unsolicited_report_interval", "1"),
            ] {
                self.sysctl(&format!("net.ipv6.conf.{scope}.{key}"), value);
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        sweep::remove_namespace(&self.name);
    }
}

/// `sgt-<pid>-<n>`, with the id of the process that created it, so that a later run can check whether
/// it has ended.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}{}-{number}", sweep::PREFIX, std::process::id())
}
