//! Running programs: to their end for what they print, or beside the test.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{PATIENCE, wait_for, wait_until};

/// A program that runs beside the test and is killed with it.
pub struct Process {
    child: Child,
    name: String,
    said: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Process {
    /// Starts a program, its output among the test's own.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let name = command.get_program().display().to_string();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self { child, name, said: Lines::default() }
    }

    /// Starts a program whose output, of both kinds, is kept for the test to read.
    #[must_use]
    pub fn listen(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self::start(command);
        if let (Some(stdout), Some(stderr)) =
            (process.child.stdout.take(), process.child.stderr.take())
        {
            keep(stdout, Arc::clone(&process.said));
            keep(stderr, Arc::clone(&process.said));
        }
        process
    }

    /// The lines that it has said so far, if it was started to be listened to.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said some words.
    pub fn wait_for_words(&self, words: &str) {
        let what = format!("{} to say {words:?}", self.name);
        wait_until(PATIENCE, &what, || self.said().iter().any(|line| line.contains(words)));
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts it, as Ctrl-C would, and waits until it has ended.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.end(Signal::SIGINT)
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let id = Pid::from_raw(i32::try_from(self.id()).expect("a process id"));
        kill(id, signal).unwrap_or_else(|error| panic!("{}: send {signal}: {error}", self.name));
        wait_for(PATIENCE, &format!("{} to end after {signal}", self.name), || {
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

/// Ends with the program.
fn keep(stream: impl Read + Send + 'static, said: Lines) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
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
