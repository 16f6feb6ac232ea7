//! `cargo xtask bench`: what a packet costs.

use std::process::Command;

use anyhow::Result;

use crate::{build, exec, machine, object, paths, setup};

/// Measures, and prints a table or JSON on standard output.
pub(crate) fn run(json: bool) -> Result<()> {
    machine::prepare("bench")?;
    setup::ensure(setup::Scope::Demo)?;
    let object = object::build_bench(&build::build()?)?;
    let mut cargo = exec::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "secgroup-tests", "--bin", "bench"]);
    exec::run(&mut cargo, "build the bench")?;
    exec::step("bench");
    let mut bench = Command::new(paths::target().join("release/bench"));
    bench.arg(object);
    if json {
        bench.arg("--json");
    }
    exec::run(&mut bench, "run the bench")
}
