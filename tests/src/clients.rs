//! The EC2 endpoint in a namespace, and the programs that are its clients there.
//!
//! They are below `target/tools/clients`, where `cargo xtask setup` installs them; their scripts are in
//! `tests/clients`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::ec2::now;
use crate::notify::Notify;
use crate::secgroup::CommandOutput;
use crate::wait::{MAX_WAIT, wait_until};
use crate::{Namespace, Process, Secgroup, root, sweep};

/// Where it listens: each test has a namespace of its own.
const ADDRESS: &str = "127.0.0.1:8773";

/// The configuration of an instance with small maps, in an account and a region that clients know.
pub const CONFIG: &str = "[maps]\nflows_new = 1024\nflows_udp = 1024\nflows_tcp = 1024\nrules = 4096\n\
                          interfaces = 8\n[ec2]\naccount = \"123456789012\"\nregion = \"us-east-1\"\n";

/// A server of the API of an instance of secgroup, stopped when this is dropped.
pub struct Endpoint<'a> {
    secgroup: &'a Secgroup<'a>,
    namespace: &'a Namespace,
    // Dropped before the directory in which clients work.
    process: Process,
    key: Option<(String, String)>,
    home: TempDir,
}

impl<'a> Endpoint<'a> {
    /// Starts it for clients in a namespace, with an access key.
    #[must_use]
    pub fn start(secgroup: &'a Secgroup<'a>, namespace: &'a Namespace) -> Self {
        Self::start_with(secgroup, namespace, "")
    }

    /// The same with lines of the configuration besides.
    #[must_use]
    pub fn start_with(secgroup: &'a Secgroup<'a>, namespace: &'a Namespace, config: &str) -> Self {
        secgroup.configure(&format!("{CONFIG}{config}"));
        let key = &secgroup.json("key create --description test")["AccessKey"];
        let word = |name: &str| key[name].as_str().expect("a part of an access key").to_owned();
        let key = (word("AccessKeyId"), word("SecretAccessKey"));
        Self::with(secgroup, namespace, Some(key), &[])
    }

    /// The same for clients that have no access key of it, with the path that empties the store.
    #[must_use]
    pub fn start_open(secgroup: &'a Secgroup<'a>, namespace: &'a Namespace) -> Self {
        secgroup.configure(CONFIG);
        Self::with(secgroup, namespace, None, &["--insecure-no-auth", "--ec2-test-reset"])
    }

    fn with(
        secgroup: &'a Secgroup<'a>,
        namespace: &'a Namespace,
        key: Option<(String, String)>,
        options: &[&str],
    ) -> Self {
        let mut command = secgroup.command(["serve", "--metrics", "127.0.0.1:0", "--ec2", ADDRESS]);
        command.args(options);
        namespace.enter(&mut command);
        let process = Notify::new().start(command);
        // Changes that were signed in the second of its start are refused, as an earlier process may have made them.
        let started = now();
        wait_until(MAX_WAIT, "the second after the start", || now() > started);
        let home = tempfile::Builder::new()
            .prefix(&format!("{}{}-", sweep::PREFIX, std::process::id()))
            .tempdir()
            .unwrap_or_else(|error| panic!("create a directory for clients: {error}"));
        Self { secgroup, namespace, process, key, home }
    }

    /// The instance whose API it is.
    #[must_use]
    pub const fn secgroup(&self) -> &Secgroup<'a> {
        self.secgroup
    }

    /// Ends the server as a service manager does, with what it does at its end.
    pub fn terminate(mut self) {
        assert!(self.process.terminate().success(), "{}", self.log());
    }

    /// Waits until a line that the server prints contains `text`.
    pub fn wait_for_output(&self, text: &str) {
        self.process.wait_for_output(text);
    }

    /// What the server has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.lines().join("\n")
    }

    /// A directory for files of clients.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A command of a client, not started yet: in the namespace, and with nothing in its environment but the
    /// endpoint, the region and the key, under the names that every client of AWS reads.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let (id, secret) = self.key.clone().unwrap_or_else(|| ("any".into(), "any".into()));
        let no_file = self.home.path().join("none");
        let tools = tools();
        command
            .env_clear()
            .current_dir(self.home.path())
            .env("PATH", format!("{}:/usr/bin:/bin", tools.join("venv/bin").display()))
            .env("HOME", self.home.path())
            .env("TMPDIR", self.home.path())
            .env("LANG", "C.UTF-8")
            .env("AWS_ENDPOINT_URL", format!("http://{ADDRESS}"))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_CONFIG_FILE", &no_file)
            .env("AWS_SHARED_CREDENTIALS_FILE", &no_file)
            .env("AWS_PAGER", "")
            // Compiled modules of the scripts stay out of the sources.
            .env("PYTHONPYCACHEPREFIX", tools.join("pycache"))
            .env("CLIENTS", &tools)
            .env("CLIENTS_NODE", tools.join("node"));
        for (name, value) in self.secgroup.command([""; 0]).get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        self.namespace.enter(&mut command);
        command
    }

    /// Runs a client that must succeed; returns its standard output.
    pub fn run(&self, command: &mut Command) -> String {
        let output = CommandOutput::of(command);
        if output.code != Some(0) {
            panic!("{command:?} has to succeed, but {output}\nthe server printed\n{}", self.log());
        }
        output.stdout
    }

    /// Runs `aws ec2` with arguments, split at spaces, that must succeed; returns the document that it prints, or
    /// null if it prints none.
    pub fn aws(&self, line: &str) -> Value {
        let text = self.run(&mut self.aws_command(line));
        if text.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("aws ec2 {line}: {error}\n{text}"))
    }

    /// Runs `aws ec2` with arguments, split at spaces, that must be refused; returns its message.
    pub fn aws_refused(&self, line: &str) -> String {
        let output = CommandOutput::of(&mut self.aws_command(line));
        assert_ne!(output.code, Some(0), "aws ec2 {line} has to be refused, but {output}");
        output.stderr.trim().to_owned()
    }

    fn aws_command(&self, line: &str) -> Command {
        let mut command = self.command(tools().join("venv/bin/aws"));
        command.arg("ec2").args(line.split_whitespace()).args(["--output", "json"]);
        command
    }

    /// Runs a Python script of `tests/clients` with arguments; returns what it prints.
    pub fn python(&self, script: &str, arguments: &[&str]) -> String {
        let mut command = self.python_command();
        self.run(command.arg(scripts().join(script)).args(arguments))
    }

    /// Runs tests of `tests/clients/python` by pytest: those of the files.
    pub fn pytest(&self, files: &[&str]) {
        let directory = scripts().join("python");
        let mut command = self.python_command();
        command.args(["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "--rootdir"]);
        command.arg(&directory).args(files.iter().map(|file| directory.join(file)));
        self.run(&mut command);
    }

    /// A Python with the packages of the clients.
    #[must_use]
    pub fn python_command(&self) -> Command {
        self.command(tools().join("venv/bin/python"))
    }
}

/// The programs that `cargo xtask setup` installed.
#[must_use]
pub fn tools() -> PathBuf {
    let tools = root().join("target/tools/clients");
    assert!(
        tools.join("complete").is_file(),
        "no clients of EC2 in {}: `cargo xtask setup` installs them",
        tools.display()
    );
    tools
}

/// The directory of the packages of Python that they need.
#[must_use]
pub fn site_packages() -> PathBuf {
    let versions = tools().join("venv/lib");
    let entries = std::fs::read_dir(&versions)
        .unwrap_or_else(|error| panic!("list {}: {error}", versions.display()));
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path().join("site-packages")));
    found.next().unwrap_or_else(|| panic!("no Python in {}", versions.display()))
}

/// The directory of their scripts.
#[must_use]
pub fn scripts() -> PathBuf {
    root().join("tests/clients")
}
