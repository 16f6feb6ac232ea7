//! `cargo xtask bench`: what a packet costs, by `BPF_PROG_TEST_RUN`, beside the least that a
//! stateful firewall does; what large policies cost; and what commands take on a host with many
//! interfaces and groups. Ratios within one run are what carries over between machines.

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use secgroup_tests::bench::{command, interfaces, measure, memory, report, scale, subject};
use secgroup_tests::interrupt;

const USAGE: &str = "usage: bench BENCH-OBJECT json|all|packets|policies|interfaces";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Everything is cleaned up by now: what was made is gone with the values that held it.
            eprintln!("error: {error:#}");
            interrupt::exit_code().map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let object = arguments.next().context(USAGE)?;
    let part = arguments.next().context(USAGE)?;
    // Before anything is made, and before the first thread, which inherits both.
    interrupt::catch()?;
    measure::pin_to_one_cpu()?;
    match part.as_str() {
        "json" => {
            let (cells, collection) = subject::measure_all(&object)?;
            report::json(&cells, collection)
        }
        "all" => {
            packets(&object)?;
            policies(&object)?;
            print_interfaces()
        }
        "packets" => packets(&object),
        "policies" => policies(&object),
        "interfaces" => print_interfaces(),
        _ => bail!(USAGE),
    }
}

fn packets(object: &str) -> Result<()> {
    let (cells, collection) = subject::measure_all(object)?;
    report::table(&cells, collection)
}

fn policies(object: &str) -> Result<()> {
    let (admissions, changes) = scale::measure(object)?;
    scale::print(&admissions, &changes);
    command::print(&command::measure()?);
    memory::print(&memory::measure()?);
    Ok(())
}

fn print_interfaces() -> Result<()> {
    interfaces::print(&interfaces::measure()?);
    Ok(())
}
