//! `cargo xtask budget`: how much work the programs are for the verifier.

use anyhow::Result;

use crate::{build, exec, machine};

/// Loads every program and prints what the verifier counted, beside the committed budget; with
/// `update`, makes what was counted the budget.
pub(crate) fn run(update: bool) -> Result<()> {
    machine::prepare("budget")?;
    build::build()?;
    let mut cargo = exec::cargo();
    // The whole workspace, for the features that the tests are built with: nothing is built twice.
    cargo.args(["test", "--workspace", "--locked", "--quiet", "--test", "budget"]);
    cargo.args(["--", "--nocapture"]);
    if update {
        cargo.env("SECGROUP_BUDGET_UPDATE", "1");
    }
    exec::run(&mut cargo, "compare with the verifier's budget")
}
