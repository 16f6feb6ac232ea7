//! `cargo xtask bench`: the time of a packet by `BPF_PROG_TEST_RUN`, compared with a minimal
//! stateful program; of large policies; and of commands on a host with many interfaces and groups.
//! Only ratios within one run are comparable between machines.

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use secgroup_tests::bench::{
    api, command, deny, interfaces, list, measure, memory, packets, records, report, scale,
};
use secgroup_tests::interrupt;

const USAGE: &str =
    "usage: bench BENCH-OBJECT json|all|packets|deny|records|policies|lists|interfaces|api";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Everything is cleaned up by now: `run` has dropped what it created.
            eprintln!("error: {error:#}");
            interrupt::exit_code().map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let object = arguments.next().context(USAGE)?;
    let part = arguments.next().context(USAGE)?;
    // Before anything is created, and before the first thread, which inherits both.
    interrupt::catch()?;
    measure::pin_to_one_cpu()?;
    match part.as_str() {
        "json" => {
            let (cells, gc) = packets::measure(&object)?;
            report::json(&cells, gc)
        }
        "all" => {
            print_packets(&object)?;
            deny::print(&deny::measure(&object)?);
            records::print(&records::measure(&object)?);
            print_policies(&object)?;
            print_lists()?;
            print_interfaces()?;
            print_api()
        }
        "packets" => print_packets(&object),
        "deny" => {
            deny::print(&deny::measure(&object)?);
            Ok(())
        }
        "records" => {
            records::print(&records::measure(&object)?);
            Ok(())
        }
        "policies" => print_policies(&object),
        "lists" => print_lists(),
        "interfaces" => print_interfaces(),
        "api" => print_api(),
        _ => bail!(USAGE),
    }
}

fn print_packets(object: &str) -> Result<()> {
    let (cells, gc) = packets::measure(object)?;
    report::table(&cells, gc)
}

fn print_policies(object: &str) -> Result<()> {
    let (admissions, changes) = scale::measure(object)?;
    scale::print(&admissions, &changes);
    command::print(&command::measure()?);
    memory::print(&memory::measure()?);
    Ok(())
}

fn print_lists() -> Result<()> {
    list::print(&list::measure()?);
    Ok(())
}

fn print_api() -> Result<()> {
    api::print(&api::measure()?);
    Ok(())
}

fn print_interfaces() -> Result<()> {
    interfaces::print(&interfaces::measure()?);
    Ok(())
}
