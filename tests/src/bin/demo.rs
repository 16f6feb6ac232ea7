//! `cargo xtask demo`: real connections that security groups allow and drop.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use secgroup_tests::{demo, interrupt};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        // The failed checks are printed.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Everything is cleaned up by now: `run` has dropped what it created.
            eprintln!("error: {error:#}");
            interrupt::exit_code().map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn run() -> Result<bool> {
    let program = env::args_os().nth(1).context("usage: demo PATH-OF-SECGROUP")?;
    demo::run(Path::new(&program))
}
