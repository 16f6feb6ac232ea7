//! The process that waits for a change's deadline. It has a session of its own and no open files, so that
//! it survives its terminal and its shell.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::RawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{self, Path};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use nix::unistd::{close, dup2_stdout, setsid};

use super::{Control, boot};
use crate::config::{Config, Paths};

/// The command line of this process.
pub const COMMAND: [&str; 2] = ["confirm", "--watch"];

/// How often it checks whether the change is still unconfirmed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often it tries a rollback that fails or cannot be stored.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// `daemon.warning` (RFC 3164).
const PRIORITY: u8 = 3 << 3 | 4;

/// The socket of syslog and the journal.
const SYSLOG: &str = "/dev/log";

/// Starts the process, and returns when it has a session of its own.
///
/// # Errors
/// It cannot be started, or ends at once.
pub(super) fn start(paths: &Paths) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("secgroup");
    // Its working directory is /.
    command.arg("--state-dir").arg(path::absolute(&paths.state_dir)?);
    command.arg("--pin-dir").arg(path::absolute(&paths.pin_dir)?);
    if let Some(config) = &paths.config {
        command.arg("--config").arg(path::absolute(config)?);
    }
    command.args(COMMAND).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut ready = [0];
    let received = child.stdout.take().map_or(Ok(0), |mut stdout| stdout.read(&mut ready))?;
    if received == 0 {
        let status = child.wait()?;
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    // No wait: init is its parent when this process has ended.
    Ok(())
}

/// Runs the process.
///
/// # Errors
/// It cannot read the deadline, or the change cannot be rolled back.
pub fn run(paths: &Paths, config: Config) -> Result<()> {
    setsid()?;
    close_inherited_files()?;
    leave_cgroup();
    let mut stdout = io::stdout();
    stdout.write_all(b".")?;
    stdout.flush()?;
    dup2_stdout(File::open("/dev/null")?)?;
    // The command that started it holds the lock until the change is made.
    drop(Control::open_existing(paths, config)?.lock()?);
    loop {
        // For reading: it must not keep a file system from being mounted read-only.
        let control = Control::open_read_only(paths, config)?;
        let (change, is_overdue) = (control.unconfirmed_change()?, control.has_overdue_change()?);
        drop(control);
        if change.is_none() && !is_overdue {
            return Ok(());
        }
        let roll_back = || Control::open_existing(paths, config)?.roll_back_overdue();
        let pause = match is_overdue.then(roll_back) {
            Some(Ok(())) => return Ok(()),
            // The kernel comes first, and the store follows when it can.
            Some(Err(_)) => RETRY_INTERVAL,
            None => change.map_or(POLL_INTERVAL, |change| change.left.min(POLL_INTERVAL)),
        };
        boot::sleep_until(boot::now()? + pause);
    }
}

/// Closes the files that it inherited: another process may wait for their end.
fn close_inherited_files() -> io::Result<()> {
    let open = fs::read_dir("/proc/self/fd")?;
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        // One number is that of the listing, which is closed already.
        let _ = close(number);
    }
    Ok(())
}

/// Leaves the control group of a session or a service, whose remaining processes a service manager kills.
/// Where this fails, every later command still checks the deadline.
fn leave_cgroup() {
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        let _ = fs::write(Path::new(root).join("cgroup.procs"), "0");
    }
}

/// Reports an event on standard error and, because that may be closed, in the system's log.
pub(super) fn report(text: &str) {
    eprintln!("secgroup: {text}");
    let line = format!("<{PRIORITY}>secgroup[{}]: {text}", std::process::id());
    let send = || UnixDatagram::unbound()?.send_to(line.as_bytes(), SYSLOG);
    let _ = send();
}
