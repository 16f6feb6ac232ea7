//! Running programs: to their end for what they print, or beside the test.

use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{PATIENCE, wait_for};

/// A program that runs beside the test and is killed with it.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program, its output among the test's own.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let name = command.get_program().display().to_string();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self { child, name }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        let id = Pid::from_raw(i32::try_from(self.id()).expect("a process id"));
        kill(id, Signal::SIGTERM).unwrap_or_else(|error| panic!("end {}: {error}", self.name));
        wait_for(PATIENCE, &format!("{} to end", self.name), || {
            self.child.try_wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.name))
        })
    }

    /// Kills it, as a crash would: without a chance to clean up.
    pub fn kill(&mut self) {
        // A program that ended already cannot be killed, and need not.
        let _ = self.child.kill();
        self.child.wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.name));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that must succeed; returns what it prints.
pub fn output(command: &mut Command) -> String {
    output_or_error(command).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program; returns what it prints, or everything about its failure.
pub(crate) fn output_or_error(command: &mut Command) -> Result<String, String> {
    let result = command.stdin(Stdio::null()).output();
    let output = result.map_err(|error| format!("start {command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}\n{stdout}{stderr}", output.status))
}
