//! `cargo xtask demo`: security groups at work on real connections.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{build, exec, machine, paths, setup};

/// Builds what the demo needs and executes the demo in place of this process, so that Ctrl-C and the
/// exit code are the demo's own. Returns only on failure.
pub(crate) fn run() -> Result<()> {
    machine::prepare("demo")?;
    setup::ensure(setup::Scope::Demo)?;
    build::development(&["demo"])?;
    exec::step("demo");
    let error = Command::new(paths::debug().join("demo")).arg(paths::tested()).exec();
    Err(error).context("start the demo")
}
