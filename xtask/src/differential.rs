//! `cargo xtask differential`: host, kernel, reference evaluator and model on the same packets.

use std::process::Command;

use anyhow::Result;

use crate::{build, exec, machine, paths};

/// Compares that many packets, from a seed.
pub(crate) fn run(pairs: u64, seed: u64) -> Result<()> {
    machine::prepare("differential")?;
    build::kernel_object()?;
    let mut cargo = exec::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "secgroup-tests"]);
    cargo.args(["--bin", "differential"]);
    exec::run(&mut cargo, "build the differential test")?;
    exec::step("differential test");
    let mut command = Command::new(paths::target().join("release/differential"));
    command.args([pairs.to_string(), seed.to_string()]);
    exec::run(&mut command, "compare host, kernel, reference evaluator and model")
}
