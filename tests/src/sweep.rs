//! Leftovers of runs that were killed before they could clean up.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use crate::process::output_or_error;

/// Everything a test makes on the machine is called `sgt-<pid>-…`.
pub const PREFIX: &str = "sgt-";

/// Where pins of tests live.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Sweeps, the first time that a test of this process makes something.
pub(crate) fn once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
}

/// Removes what dead processes left: pins first, which hold programs to devices, then namespaces
/// and state directories.
///
/// Another process may sweep at the same time, so a failure here is the other one's success.
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

/// Kills what runs in a namespace and deletes it, with its devices.
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

/// Removes a directory of pins; programs whose only holder was a pin detach.
pub(crate) fn remove_pins(directory: &Path) {
    if directory.exists()
        && let Err(error) = fs::remove_dir_all(directory)
    {
        eprintln!("remove pins {}: {error}", directory.display());
    }
}

/// The entries of a directory that a test made whose process is no more.
fn orphans(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()))
        .collect()
}

/// The process id in a name that a test gave.
fn owner(name: &str) -> Option<&str> {
    let (pid, _number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner("sgt-123-0"), Some("123"));
        for name in ["sgt-123", "sgt-x-0", "secgroup", "my-sgt-1-2"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
