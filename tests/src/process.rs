//! Runs programs to their end for their output, or in the background of a test.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

use crate::wait::{MAX_WAIT, wait_for, wait_until};

/// Makes a command end on SIGINT although the tests may have been started with SIGINT ignored, as a
/// shell starts what runs in its background.
pub fn end_on_interrupt(command: &mut Command) {
    // SAFETY: between fork and exec only `signal` is called, which is async-signal-safe; the default
    // action runs no code of ours.
    unsafe {
        command.pre_exec(|| {
            signal(Signal::SIGINT, SigHandler::SigDfl)?;
            Ok(())
        });
    }
}

/// A program in the background, killed when this is dropped.
pub struct Process {
    child: Child,
    name: String,
    lines: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Process {
    /// Starts a program that writes to the test's own output.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let name = command.get_program().display().to_string();
        end_on_interrupt(&mut command);
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self { child, name, lines: Lines::default() }
    }

    /// Starts a program and keeps its standard output and standard error for [`Process::lines`].
    #[must_use]
    pub fn capture(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self::start(command);
        if let (Some(stdout), Some(stderr)) =
            (process.child.stdout.take(), process.child.stderr.take())
        {
            keep(stdout, Arc::clone(&process.lines));
            keep(stderr, Arc::clone(&process.lines));
        }
        process
    }

    /// The lines that it has printed so far, if it was started by [`Process::capture`].
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line of its output contains `text`.
    pub fn wait_for_output(&self, text: &str) {
        let what = format!("{} to print {text:?}", self.name);
        wait_until(MAX_WAIT, &what, || self.lines().iter().any(|line| line.contains(text)));
    }

    /// Waits until it handles a signal.
    pub fn wait_for_handler(&self, signal: Signal) {
        let bit = 1_u64 << (signal as i32 - 1);
        wait_until(MAX_WAIT, &format!("{} to handle {signal}", self.name), || {
            let status =
                fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            mask.is_some_and(|mask| mask & bit != 0)
        });
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGINT, as Ctrl-C does, and waits until it has ended.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.end(Signal::SIGINT)
    }

    /// Sends SIGTERM, as a service manager does, and waits until it has ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let id = Pid::from_raw(i32::try_from(self.id()).expect("a process id"));
        kill(id, signal).unwrap_or_else(|error| panic!("{}: send {signal}: {error}", self.name));
        wait_for(MAX_WAIT, &format!("{} to end after {signal}", self.name), || {
            self.child.try_wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.name))
        })
    }

    /// Sends SIGKILL, so that it cannot clean up.
    pub fn kill(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.name));
    }
}

/// Collects lines until the program closes the stream.
fn keep(stream: impl Read + Send + 'static, lines: Lines) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that must succeed; returns its standard output.
pub fn output(command: &mut Command) -> String {
    output_or_error(command).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program; returns its standard output, or its status and all its output if it fails.
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
