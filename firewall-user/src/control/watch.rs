//! The process that waits for a change's deadline. It has a session of its own and no open files, so that
//! it survives its terminal and its shell.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{self, Path};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{close, dup2_stdout, setsid};

use super::{Control, boot};
use crate::config::{Config, Paths};
use crate::journal;

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

/// Exists where systemd is the service manager (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Where systemd-run is. Not searched in `PATH`: this process is root's.
const SYSTEMD_RUN: [&str; 2] = ["/usr/bin/systemd-run", "/run/current-system/sw/bin/systemd-run"];

/// How long systemd may take to make a scope.
const SCOPE_TIME: Duration = Duration::from_secs(5);

/// Starts the process, and returns when it has a session of its own. Where systemd runs, it is in a scope of its
/// own, because systemd may end what is left of a session or a service. Elsewhere it stays in the control group of
/// its caller, and if that is ended, the next command or `serve` rolls back.
///
/// # Errors
/// It cannot be started, or ends at once.
pub(super) fn start(paths: &Paths) -> io::Result<()> {
    if Path::new(SYSTEMD).is_dir()
        && let Some(systemd_run) = SYSTEMD_RUN.iter().find(|path| Path::new(path).exists())
    {
        let mut command = Command::new(systemd_run);
        command.args(["--scope", "--quiet", "--collect", "--slice=system.slice"]);
        command.args(["--description=secgroup: rolls an unconfirmed change back", "--"]);
        command.arg(std::env::current_exe()?);
        // systemd-run becomes the process, in the same namespaces.
        if spawn(command, paths, Some(SCOPE_TIME)).is_ok() {
            return Ok(());
        }
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0("secgroup");
    spawn(command, paths, None)
}

/// Adds the arguments, and starts a command that becomes the process. `limit`: how long that may take.
fn spawn(mut command: Command, paths: &Paths, limit: Option<Duration>) -> io::Result<()> {
    // Its working directory is /.
    command.arg("--state-dir").arg(path::absolute(&paths.state_dir)?);
    command.arg("--pin-dir").arg(path::absolute(&paths.pin_dir)?);
    if let Some(config) = &paths.config {
        command.arg("--config").arg(path::absolute(config)?);
    }
    command.args(COMMAND).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let received = child.stdout.take().map_or(Ok(false), |stdout| is_ready(stdout, limit));
    if !matches!(received, Ok(true)) {
        // Two of them would both roll back.
        let _ = child.kill();
        let status = child.wait()?;
        received?;
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    // No wait: init is its parent when this process has ended.
    Ok(())
}

/// Waits for the byte that the process writes when it is ready.
fn is_ready(mut stdout: ChildStdout, limit: Option<Duration>) -> io::Result<bool> {
    if let Some(limit) = limit {
        let time = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut files = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        if poll(&mut files, time)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    stdout.read(&mut [0]).map(|size| size > 0)
}

/// Runs the process.
///
/// # Errors
/// It cannot read the deadline, or the change cannot be rolled back.
pub fn run(paths: &Paths, config: Config) -> Result<()> {
    setsid()?;
    close_inherited_files()?;
    let mut stdout = io::stdout();
    stdout.write_all(b".")?;
    stdout.flush()?;
    dup2_stdout(File::open("/dev/null")?)?;
    // The command that started it holds the lock until the change is made.
    // Another process may have it too, and that one is not waited for.
    let wait = || {
        let control = Control::open_existing(paths, config)?.in_emergency();
        drop(control.lock()?);
        Ok::<_, anyhow::Error>(())
    };
    while wait().is_err() {
        boot::sleep_until(boot::now()? + POLL_INTERVAL);
    }
    let mut is_reported = false;
    loop {
        // For reading: it must not keep a file system from being mounted read-only.
        let look = || {
            let control = Control::open_read_only(paths, config)?;
            Ok::<_, anyhow::Error>((control.unconfirmed_change()?, control.has_overdue_change()?))
        };
        let (change, is_overdue) = match look() {
            Ok(seen) => seen,
            Err(error) => {
                // The store may be readable again before the deadline.
                if !is_reported {
                    report(&format!("an unconfirmed change cannot be looked at: {error:#}"));
                }
                is_reported = true;
                boot::sleep_until(boot::now()? + POLL_INTERVAL);
                continue;
            }
        };
        if change.is_none() && !is_overdue {
            return Ok(());
        }
        let roll_back =
            || Control::open_existing(paths, config)?.in_emergency().roll_back_overdue();
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

/// Reports an event on standard error and, because that may be closed, in the system's log.
pub(super) fn report(text: &str) {
    journal::report(format_args!("{text}"));
    let line = format!("<{PRIORITY}>secgroup[{}]: {text}", std::process::id());
    let send = || UnixDatagram::unbound()?.send_to(line.as_bytes(), SYSLOG);
    let _ = send();
}
