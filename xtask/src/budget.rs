//! `cargo xtask budget`: the verifier's instruction counts.

use anyhow::Result;

use crate::{build, exec, machine};

/// Loads every program and prints the verifier's counts beside the committed budget; with `update`,
/// writes the counts as the new budget.
pub(crate) fn run(update: bool) -> Result<()> {
    machine::prepare("budget")?;
    build::kernel_object()?;
    let mut cargo = exec::cargo();
    // The whole workspace, for the features that the tests are built with: nothing is built twice.
    cargo.args(["test", "--workspace", "--locked", "--quiet", "--test", "budget"]);
    cargo.args(["--", "--nocapture"]);
    if update {
        cargo.env("SECGROUP_BUDGET_UPDATE", "1");
    }
    exec::run(&mut cargo, "compare with the verifier budget")
}
