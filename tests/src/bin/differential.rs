//! `cargo xtask differential`: compares host, kernel, reference evaluator and model on random
//! packets.

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use secgroup_tests::decision::differential;

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
    let mut numbers = env::args().skip(1).map(|text| text.parse::<u64>().ok());
    let mut number = || numbers.next().flatten().context("usage: differential PAIRS SEED");
    let (pairs, seed) = (number()?, number()?);
    let summary = match differential::run(pairs, seed) {
        Ok(summary) => summary,
        Err(difference) => bail!("host, kernel and model differ\n{difference}"),
    };
    let seconds = summary.time.as_secs_f64();
    println!(
        "{} packets in {} sequences compared between host and kernel, {} of them with the model \
         too, in {seconds:.1} s ({:.0} per second): no difference",
        summary.pairs,
        summary.sequences,
        summary.modelled,
        summary.pairs as f64 / seconds
    );
    for (reason, count) in &summary.reasons {
        println!("{count:>10} {reason}");
    }
    Ok(())
}
