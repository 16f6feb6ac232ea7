//! `cargo xtask bench`: what a packet costs.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{build, exec, machine, object, paths, setup};

/// Measures, and prints a table or JSON on standard output.
pub(crate) fn run(json: bool) -> Result<()> {
    machine::prepare("bench")?;
    setup::ensure(setup::Scope::Demo)?;
    let mut bench = compile("bench")?;
    if json {
        bench.arg("--json");
    }
    exec::run(&mut bench, "run the bench")
}

/// Becomes the bench beside peers, so that Ctrl-C and the exit code are its own. Returns only if
/// that fails.
pub(crate) fn peers() -> Result<()> {
    machine::prepare("bench --peers")?;
    setup::ensure(setup::Scope::Demo)?;
    setup::ensure_peers()?;
    let error = compile("peers")?.arg(paths::root().join("docs")).exec();
    Err(error).context("start the bench")
}

/// Builds everything and a program of the tests' that measures; it is to be given the object with
/// the programs to compare with.
fn compile(bin: &str) -> Result<Command> {
    let object = object::build_bench(&build::build()?)?;
    let mut cargo = exec::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "secgroup-tests", "--bin", bin]);
    exec::run(&mut cargo, "build the bench")?;
    exec::step("bench");
    let mut bench = Command::new(paths::target().join("release").join(bin));
    bench.arg(object);
    Ok(bench)
}
