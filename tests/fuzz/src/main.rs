//! `fuzz-plain TARGET SECONDS SEED`: random inputs without coverage; prints executions and results.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use secgroup_fuzz::{Target, plain};

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
    let usage = "usage: fuzz-plain TARGET SECONDS SEED";
    let mut arguments = env::args().skip(1);
    let target = arguments.next().context(usage)?;
    let target = Target::from_name(&target).with_context(|| format!("no fuzz target {target}"))?;
    let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).context(usage);
    let (seconds, seed) = (number()?, number()?);
    let count = plain::run(target, seed, Duration::from_secs(seconds));
    println!("{} {}", count.executions, count.results);
    Ok(())
}
