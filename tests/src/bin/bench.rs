//! `cargo xtask bench`: what a packet costs, by `BPF_PROG_TEST_RUN`, beside the least that a
//! stateful firewall does. Ratios within one run are what carries over between machines.

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use secgroup_tests::bench::{command, measure, report, scale, subject};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let object = arguments.next().context("usage: bench BENCH-OBJECT [--json]")?;
    let json = arguments.next().as_deref() == Some("--json");
    measure::pin_to_one_cpu()?;
    let (cells, collection) = subject::measure_all(&object)?;
    if json {
        return report::json(&cells, collection);
    }
    report::table(&cells, collection)?;
    let (admissions, changes) = scale::measure(&object)?;
    scale::print(&admissions, &changes);
    command::print(&command::measure()?);
    Ok(())
}
