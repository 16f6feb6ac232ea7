//! Running code in another network namespace; the caller's thread stays in its own.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::dataplane::error::{Context as _, DataplaneError, Result};
use crate::dataplane::sys;

const NAMED: &str = "/var/run/netns";

/// Where `ip netns add NAME` mounts the namespace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(NAMED).join(name)
}

/// Runs `work` in the named network namespace (`None`: the current one).
///
/// A network namespace belongs to a thread, so `work` runs in a new thread. The mount namespace stays
/// the same, and with it /sys/fs/bpf.
///
/// # Errors
/// The namespace cannot be entered, or `work` fails.
pub fn within<T: Send>(name: Option<&str>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(name) = name else { return work() };
    let file = open(name)?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(|error| enter_error(name, error))?;
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The number of this thread's network namespace, which no other one has until the next boot; never 0.
pub(in crate::dataplane) fn cookie() -> Result<u64> {
    let socket = UnixDatagram::unbound().and_then(|socket| sys::netns::cookie(socket.as_fd()));
    socket.context("read the number of the network namespace")
}

/// The names of all named network namespaces that this process may enter.
pub(in crate::dataplane) fn names() -> Vec<String> {
    let entries = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| within(Some(name), || Ok(())).is_ok()).collect()
}

const LIST_HINT: &str =
    "`ip netns list` shows the named ones; `ip netns attach NAME PID` names another";

/// Opens a named network namespace.
///
/// # Errors
/// There is none of that name.
pub fn open(name: &str) -> Result<File> {
    let path = path(name);
    File::open(&path).map_err(|error| {
        DataplaneError::not_found(
            format!("network namespace {name}: {}: {error}", path.display()),
            LIST_HINT,
        )
    })
}

fn enter_error(name: &str, error: Errno) -> DataplaneError {
    let what = format!("enter network namespace {name:?}: {error}");
    match error {
        Errno::EPERM => DataplaneError::new(what, "entering a namespace needs CAP_SYS_ADMIN"),
        // The file is no network namespace.
        _ => DataplaneError::not_found(what, LIST_HINT),
    }
}
