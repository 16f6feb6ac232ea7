//! The process that waits for a change's deadline. It has a session of its own and nothing open, so
//! that neither a terminal that hangs up nor a shell that dies takes it along.

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
use crate::store::FILE;

/// The command that is this process.
pub const COMMAND: [&str; 2] = ["confirm", "--watch"];

/// How often it looks whether the change still waits.
const GLANCE: Duration = Duration::from_secs(1);

/// `daemon.warning` (RFC 3164).
const PRIORITY: u8 = 3 << 3 | 4;

/// Where syslog and the journal listen.
const SYSLOG: &str = "/dev/log";

/// Starts it, and returns when it is on its own.
///
/// # Errors
/// It could not be started, or ended at once.
pub(super) fn start(paths: &Paths) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("secgroup");
    // It works elsewhere.
    command.arg("--state-dir").arg(path::absolute(&paths.state_dir)?);
    command.arg("--pin-dir").arg(path::absolute(&paths.pin_dir)?);
    if let Some(config) = &paths.config {
        command.arg("--config").arg(path::absolute(config)?);
    }
    command.args(COMMAND).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut ready = [0];
    let said = child.stdout.take().map_or(Ok(0), |mut stdout| stdout.read(&mut ready))?;
    if said == 0 {
        let status = child.wait()?;
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    // Never waited for: init takes it over when this process ends.
    Ok(())
}

/// What the process does.
///
/// # Errors
/// It cannot watch, or what was before cannot be brought back.
pub fn run(paths: &Paths, config: Config) -> Result<()> {
    setsid()?;
    let_go()?;
    leave_cgroup();
    let mut stdout = io::stdout();
    stdout.write_all(b".")?;
    stdout.flush()?;
    dup2_stdout(File::open("/dev/null")?)?;
    // Whoever started it holds the lock until the change is made.
    let mut control = Control::open(paths, config)?;
    drop(control.lock()?);
    while let Some(waiting) = control.waiting()? {
        if waiting.left.is_zero() {
            return control.settle();
        }
        boot::sleep_until(boot::now()? + waiting.left.min(GLANCE));
        if !paths.state_dir.join(FILE).exists() {
            break;
        }
        control = Control::open(paths, config)?;
    }
    Ok(())
}

/// Closes what a caller left open: somebody may wait for its end.
fn let_go() -> io::Result<()> {
    let open = fs::read_dir("/proc/self/fd")?;
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        // Also that of the listing, which is closed by now.
        let _ = close(number);
    }
    Ok(())
}

/// A service manager kills what is left in the control group of a session or a service. Where it may
/// not leave, every later command still looks at the deadline.
fn leave_cgroup() {
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        let _ = fs::write(Path::new(root).join("cgroup.procs"), "0");
    }
}

/// Tells what nobody asked for: on stderr, and since that may be nobody's, in the system's log.
pub(super) fn tell(text: &str) {
    eprintln!("secgroup: {text}");
    let line = format!("<{PRIORITY}>secgroup[{}]: {text}", std::process::id());
    let send = || UnixDatagram::unbound()?.send_to(line.as_bytes(), SYSLOG);
    let _ = send();
}
