//! `cargo xtask check`: the checks that run no packet.

use std::process::Command;

use anyhow::{Result, bail};

use crate::toolchain::Toolchain;
use crate::{exec, object, setup};

/// Suites that read the sources: which module uses which.
const STRUCTURE: [&str; 2] = ["layering", "rooms"];

/// One check.
pub(crate) struct Check {
    /// Printed and counted by this name.
    pub(crate) name: &'static str,
    command: Command,
}

impl Check {
    /// Runs the check; its findings go to the terminal.
    pub(crate) fn run(&mut self) -> Result<()> {
        exec::step(self.name);
        exec::run(&mut self.command, self.name)
    }
}

/// Runs every check, also after one has failed, so that the list of failures is complete.
pub(crate) fn run() -> Result<()> {
    let toolchain = setup::ensure_lints()?;
    let mut checks = all(&toolchain);
    // `cargo xtask test` counts these suites among its tests.
    checks.push(Check { name: "structure", command: structure() });
    let mut failed = Vec::new();
    for mut check in checks {
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

/// The checks that are no tests.
pub(crate) fn all(toolchain: &Toolchain) -> Vec<Check> {
    let mut checks = quick(toolchain);
    checks.push(Check { name: "documentation", command: documentation() });
    checks
}

/// Those of the quick tier.
pub(crate) fn quick(toolchain: &Toolchain) -> Vec<Check> {
    vec![
        Check { name: "format", command: format() },
        Check { name: "lints of userspace", command: clippy() },
        Check { name: "lints of the kernel program", command: kernel_clippy(toolchain) },
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

/// The library and the program as compiled for the kernel: other code than on the host, wherever it
/// has `cfg(target_arch = "bpf")`, and other lints apply.
fn kernel_clippy(toolchain: &Toolchain) -> Command {
    let mut cargo = object::command(toolchain, "check");
    cargo
        .args(["--lib", "--bins", "--quiet"])
        // As `cargo clippy` does, but cargo and the compiler may be of different versions.
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

fn structure() -> Command {
    let mut cargo = exec::cargo();
    cargo.args(["test", "--workspace", "--locked", "--quiet"]);
    cargo.args(STRUCTURE.iter().flat_map(|suite| ["--test", suite]));
    cargo
}
