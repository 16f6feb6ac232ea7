//! `cargo xtask bench --peers`: secgroup compared with no firewall, nftables and iptables.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use secgroup_tests::bench::measure::pin_to_one_cpu;
use secgroup_tests::{interrupt, peers};

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
    let mut arguments = env::args_os().skip(1);
    let mut argument = || arguments.next().context("usage: peers BENCH-OBJECT DIRECTORY");
    let (object, directory) = (argument()?, argument()?);
    // Before anything is created, and before the first thread, which inherits both.
    interrupt::catch()?;
    pin_to_one_cpu()?;
    peers::run(Path::new(&object), Path::new(&directory))
}
