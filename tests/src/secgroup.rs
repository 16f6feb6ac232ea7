//! The built program, run as a user runs it, with its own state directory and pins.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::counters::Counters;
use crate::{Namespace, PinDirectory, sweep};

/// Small maps, which are fast to create; their memory is allocated at once.
const CONFIG: &str =
    "[maps]\nflows_new = 1024\nflows_udp = 1024\nflows_tcp = 1024\nrules = 4096\ninterfaces = 8\n";

/// The output and exit code of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl CommandOutput {
    /// Runs a command until it ends, also if it fails.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(out, "it ended with {code:?} and printed\n{stdout}{stderr}")
    }
}

/// A separate instance of secgroup on this machine.
///
/// Dropping it detaches its interfaces. Declare it after the namespaces of these interfaces, so
/// that it is dropped first.
pub struct Secgroup<'a> {
    program: PathBuf,
    inside: Option<&'a Namespace>,
    directory: TempDir,
    pins: PinDirectory,
}

impl Secgroup<'static> {
    /// An instance that runs in the machine's own network namespace: its commands must name devices
    /// only together with `--netns`.
    #[expect(clippy::new_without_default, reason = "a directory and kernel objects, not a value")]
    #[must_use]
    pub fn new() -> Self {
        Self::create(binary(), None)
    }
}

impl<'a> Secgroup<'a> {
    /// An instance whose commands run in a namespace.
    #[must_use]
    pub fn inside(namespace: &'a Namespace) -> Self {
        Self::create(binary(), Some(namespace))
    }

    /// The same with another `secgroup` program than [`binary`].
    #[must_use]
    pub fn of(program: &Path, namespace: &'a Namespace) -> Self {
        Self::create(program.to_owned(), Some(namespace))
    }

    fn create(program: PathBuf, inside: Option<&'a Namespace>) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("{}{}-", sweep::PREFIX, std::process::id()))
            .tempdir()
            .unwrap_or_else(|error| panic!("create a state directory: {error}"));
        let secgroup = Self { program, inside, directory, pins: PinDirectory::new() };
        secgroup.configure(CONFIG);
        secgroup
    }

    /// Replaces the configuration file, for the commands that follow.
    pub fn configure(&self, config: &str) {
        let file = self.config();
        fs::write(&file, config)
            .unwrap_or_else(|error| panic!("write {}: {error}", file.display()));
    }

    /// The directory of the store.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The directory of the pins.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        self.pins.path()
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    /// A command of this instance, not started yet.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.prepared(Command::new(&self.program));
        command.args(arguments);
        command
    }

    /// A command that a wrapper such as `setpriv` starts; it and its arguments are the last arguments
    /// of the wrapper. `line` is split at spaces.
    #[must_use]
    pub fn command_under(&self, wrapper: &[&str], line: &str) -> Command {
        let [program, options @ ..] = wrapper else { panic!("no program to start {line} under") };
        let mut command = self.prepared(Command::new(program));
        command.args(options).arg(&self.program).args(line.split_whitespace());
        command
    }

    fn prepared(&self, mut command: Command) -> Command {
        command
            .env("SECGROUP_STATE_DIR", self.state_dir())
            .env("SECGROUP_PIN_DIR", self.pin_dir())
            .env("SECGROUP_CONFIG", self.config())
            .stdin(Stdio::null());
        if let Some(namespace) = self.inside {
            namespace.enter(&mut command);
        }
        command
    }

    /// Runs a command until it ends, also if it fails.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> CommandOutput {
        CommandOutput::of(&mut self.command(arguments))
    }

    /// Runs a command line, split at spaces, that must succeed; returns its standard output.
    pub fn ok(&self, line: &str) -> String {
        self.ok_with(line.split_whitespace())
    }

    /// The same for arguments with spaces in them.
    pub fn ok_with<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let arguments: Vec<S> = arguments.into_iter().collect();
        let output = self.run(&arguments);
        if output.code != Some(0) {
            let line: Vec<_> =
                arguments.iter().map(|word| word.as_ref().display().to_string()).collect();
            panic!("secgroup {} has to succeed, but {output}", line.join(" "));
        }
        output.stdout
    }

    /// Runs a command line that must fail with an exit code; returns its standard error.
    pub fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line.split_whitespace());
        assert_eq!(
            output.code,
            Some(code),
            "secgroup {line} has to fail with {code}, but {output}"
        );
        output.stderr
    }

    /// Runs a command with `--output json`; returns the document.
    pub fn json(&self, line: &str) -> Value {
        let text = self.ok(&format!("{line} --output json"));
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("secgroup {line} --output json: {error}\n{text}"))
    }

    /// The status document, whether or not everything is enforced.
    pub fn status(&self) -> Value {
        let output = self.run(["status", "--output", "json"]);
        assert!(matches!(output.code, Some(0 | 3 | 5)), "status has to be read, but {output}");
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// The current counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::from_json(&self.json("stats"))
    }

    /// The output of the commands that an operator uses for diagnosis.
    #[must_use]
    pub fn view(&self) -> String {
        let show = |line: &str| {
            let CommandOutput { stdout, stderr, .. } = self.run(line.split_whitespace());
            format!("$ secgroup {line}\n{stdout}{stderr}\n")
        };
        ["status", "stats", "flows list", "rule list"].map(show).concat()
    }

    /// Runs `work` and asserts that exactly these counters increased, by these numbers of packets:
    /// `("eth0", "ingress", "no-rule", 1)`.
    pub fn moved<T>(&self, expected: &[(&str, &str, &str, u64)], work: impl FnOnce() -> T) -> T {
        let (result, increased) = self.count(work);
        self.assert_exactly(expected, &increased);
        result
    }

    /// The same for work with an unknown number of packets over flows: `established` is left out of
    /// the comparison.
    pub fn moved_over_flows<T>(
        &self,
        expected: &[(&str, &str, &str, u64)],
        work: impl FnOnce() -> T,
    ) -> T {
        let (result, increased) = self.count(work);
        self.assert_exactly(expected, &increased.without("established"));
        result
    }

    fn count<T>(&self, work: impl FnOnce() -> T) -> (T, Counters) {
        let before = self.counters();
        let result = work();
        (result, self.counters().since(&before))
    }

    fn assert_exactly(&self, expected: &[(&str, &str, &str, u64)], increased: &Counters) {
        assert!(
            increased.is_exactly(expected),
            "other counters increased than expected\nexpected:\n{}increased:\n{increased}\n{}",
            Counters::of(expected),
            self.view()
        );
    }
}

impl Drop for Secgroup<'_> {
    fn drop(&mut self) {
        // Code 3, nothing is attached, is no failure; the pins and their links are removed anyway.
        // No panic here: a second panic aborts the process without further cleanup.
        let detach = || self.command(["detach", "--all"]).output();
        let mut outcome = detach();
        if matches!(&outcome, Ok(output) if output.status.code() == Some(1)) {
            // A test that failed may have left a change unconfirmed.
            let _ = self.command(["rollback"]).output();
            outcome = detach();
        }
        match outcome {
            Ok(output) if matches!(output.status.code(), Some(0 | 3)) => {}
            outcome => eprintln!("secgroup detach --all: {outcome:?}"),
        }
    }
}

/// The program, built in the same profile as its caller: the optimised one for measurements.
#[must_use]
pub fn binary() -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let binary = target.join(profile).join("secgroup");
    assert!(binary.exists(), "no {}: run the tests by `cargo xtask test`", binary.display());
    binary
}
