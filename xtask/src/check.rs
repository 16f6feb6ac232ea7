//! `cargo xtask check`: what can be said of the code without running it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::toolchain::Toolchain;
use crate::{exec, object, setup};

/// One thing that is checked.
pub(crate) struct Check {
    /// What is printed and counted.
    pub(crate) name: &'static str,
    /// What finds out.
    command: Command,
}

impl Check {
    /// Runs the check; what is wrong goes to the terminal.
    pub(crate) fn run(&mut self) -> Result<()> {
        exec::step(self.name);
        exec::run(&mut self.command, self.name)
    }
}

/// Runs every check, also after one has failed: a contributor wants the whole list.
pub(crate) fn run() -> Result<()> {
    let toolchain = setup::ensure(setup::Scope::Test)?;
    // Userspace embeds the object, so not even a lint of it goes without.
    object::build(&toolchain)?;
    let mut failed = Vec::new();
    for mut check in all(&toolchain) {
        if let Err(error) = check.run() {
            eprintln!("error: {error:#}");
            failed.push(check.name);
        }
    }
    if !failed.is_empty() {
        bail!("checks failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The checks, the quick ones first.
pub(crate) fn all(toolchain: &Toolchain) -> Vec<Check> {
    vec![
        Check { name: "format", command: format() },
        Check { name: "lints of userspace", command: clippy() },
        Check { name: "lints of the kernel program", command: kernel_clippy(toolchain) },
        Check { name: "documentation", command: documentation() },
    ]
}

fn format() -> Command {
    let mut cargo = exec::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    cargo
}

fn clippy() -> Command {
    let mut cargo = exec::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet"]);
    cargo.args(["--", "-D", "warnings"]);
    cargo
}

/// The library and the program as the kernel gets them: other code than on the host, wherever it
/// says `cfg(target_arch = "bpf")`, and other lints apply.
fn kernel_clippy(toolchain: &Toolchain) -> Command {
    let mut cargo = object::command(toolchain, "check");
    cargo
        .args(["--lib", "--bins", "--quiet"])
        // What `cargo clippy` does, without asking that cargo and the compiler be of one version.
        .env("RUSTC_WORKSPACE_WRAPPER", toolchain.clippy())
        .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    cargo
}

fn documentation() -> Command {
    let mut cargo = exec::cargo();
    cargo
        .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    cargo
}
