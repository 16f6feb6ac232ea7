//! Network namespaces that end with the test.

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

/// A network namespace of its own, with the loopback device up and nothing else.
///
/// It is a named one, so that `secgroup attach --netns` and `ip netns exec` find it. Dropping it
/// kills what runs inside and deletes it with all its devices.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace.
    #[expect(clippy::new_without_default, reason = "a kernel object, not a value")]
    #[must_use]
    pub fn new() -> Self {
        sweep::once();
        let name = unique_name();
        output(Command::new("ip").args(["netns", "add", &name]));
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).unwrap_or_else(|error| panic!("open {path}: {error}"));
        let namespace = Self { name, file };
        namespace.quieten();
        namespace.ip("link set lo up");
        namespace
    }

    /// What the namespace is called in `/run/netns`.
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
        // The kernel shows each thread the parameters of the thread's own namespace.
        self.run(|| {
            fs::write(&path, value)
                .unwrap_or_else(|error| panic!("{}: write {value} to {path}: {error}", self.name));
        });
    }

    /// Runs a closure inside, on a thread of its own. Sockets made there stay there, whichever
    /// thread uses them afterwards.
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

    /// A command that will run inside. Unlike under `ip netns exec`, which mounts a sysfs of its
    /// own, the command sees `/sys/fs/bpf`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.enter(&mut command);
        command
    }

    /// Makes a command run inside.
    pub fn enter(&self, command: &mut Command) {
        let file = self.file.try_clone().expect("duplicate a namespace's descriptor");
        // SAFETY: between fork and exec only `setns` is called, which is a bare system call.
        unsafe {
            command.pre_exec(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
            });
        }
    }

    /// Starts a program inside, which ends with what is returned.
    #[must_use]
    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Process {
        let mut command = self.command(program);
        command.args(arguments);
        Process::start(command)
    }

    /// What a host says by itself would move counters that no test expects: duplicate address
    /// detection and router solicitation go, multicast reports are sent at once and not within
    /// seconds.
    fn quieten(&self) {
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

/// `sgt-<pid>-<n>`: a later run can tell whose it is, and whether that one still lives.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}{}-{number}", sweep::PREFIX, std::process::id())
}
