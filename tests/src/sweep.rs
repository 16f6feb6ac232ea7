//! Removes the leftovers of test runs that were killed before their cleanup.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use crate::process::output_or_error;

/// The names of all objects that a test creates on the machine: `sgt-<pid>-…`.
pub const PREFIX: &str = "sgt-";

/// The bpffs with the pins of tests.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Sweeps once per process, before its first test creates anything.
pub(crate) fn once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
}

/// Removes the objects of test processes that have ended: pins first, which keep programs attached
/// to devices, then namespaces and state directories.
///
/// Another process may sweep at the same time, so failures are ignored.
pub fn sweep() {
    for name in orphans(BPFFS) {
        remove_pins(&Path::new(BPFFS).join(name));
    }
    for name in orphans("/run/netns") {
        remove_namespace(&name);
    }
    let temporary = env::temp_dir();
    for name in orphans(&temporary) {
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

/// Kills the processes in a namespace and deletes it with its devices.
pub(crate) fn remove_namespace(name: &str) {
    let pids = output_or_error(Command::new("ip").args(["netns", "pids", name]));
    for pid in pids.unwrap_or_default().split_whitespace() {
        if let Ok(pid) = pid.parse() {
            // It may have ended since it was listed.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
    if let Err(error) = output_or_error(Command::new("ip").args(["netns", "delete", name])) {
        eprintln!("remove namespace {name}: {error}");
    }
}

/// Removes a directory of pins; programs that only a pin kept attached are detached.
pub(crate) fn remove_pins(directory: &Path) {
    if directory.exists()
        && let Err(error) = fs::remove_dir_all(directory)
    {
        eprintln!("remove pins {}: {error}", directory.display());
    }
}

/// The entries of a directory that were made by a test process that has ended.
fn orphans(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()))
        .collect()
}

/// The process id in a name made by [`crate::namespace`].
fn owner(name: &str) -> Option<&str> {
    let (pid, _number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_names_made_by_tests_have_an_owner() {
        assert_eq!(owner("sgt-123-0"), Some("123"));
        for name in ["sgt-123", "sgt-x-0", "secgroup", "my-sgt-1-2"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
