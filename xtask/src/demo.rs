//! `cargo xtask demo`: security groups at work, watched.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{build, exec, machine, paths, setup};

/// Builds everything and becomes the demo, so that Ctrl-C and the exit code are the demo's own.
/// Returns only if that fails.
pub(crate) fn run() -> Result<()> {
    machine::prepare("demo")?;
    setup::ensure(setup::Scope::Demo)?;
    build::build()?;
    let mut cargo = exec::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "secgroup-tests", "--bin", "demo"]);
    exec::run(&mut cargo, "build the demo")?;
    exec::step("demo");
    let error = Command::new(paths::target().join("release/demo")).arg(paths::binary()).exec();
    Err(error).context("start the demo")
}
