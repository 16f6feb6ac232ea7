//! Every chore a contributor to secgroup has, as `cargo xtask <chore>`.

mod bench;
mod budget;
mod build;
mod check;
mod demo;
mod differential;
mod exec;
mod fuzz;
mod kernel;
mod linker;
mod machine;
mod object;
mod paths;
mod setup;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every chore a contributor to secgroup has.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Find or install what building and testing need; says what and why.
    Setup,
    /// Build the kernel object, then `target/release/secgroup` with the object inside.
    Build,
    /// Build, then watch security groups let real connections through and drop others.
    Demo,
    /// Measure what a packet costs, beside the least that a stateful firewall does, what large
    /// policies cost, and what commands take on a host with many interfaces and groups.
    Bench {
        /// Print JSON, of packets only.
        #[arg(long, conflicts_with = "peers")]
        json: bool,
        /// Only this.
        #[arg(long, conflicts_with_all = ["json", "peers"])]
        part: Option<bench::Part>,
        /// Compare with no firewall, nftables and iptables instead; writes docs/peers.md and
        /// docs/peers.svg.
        #[arg(long)]
        peers: bool,
    },
    /// Formatting, lints and documentation, of userspace and of the kernel program.
    Check,
    /// The verifier's work by program, beside the committed budget.
    Budget {
        /// Make what is measured the budget.
        #[arg(long)]
        update: bool,
    },
    /// Try any bytes against the decision logic and the compiler of rules, on the host.
    Fuzz {
        /// For how long, each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Only this one: parse, decide or policy.
        #[arg(long)]
        target: Option<String>,
        /// Random inputs instead of libFuzzer's: many more, and blind to coverage.
        #[arg(long)]
        plain: bool,
        /// Where random inputs start.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Afterwards put inputs that reach new code into tests/fuzz/corpus.
        #[arg(long)]
        keep: bool,
    },
    /// Compare host, kernel, reference evaluator and a plain model on random packets.
    Differential {
        /// How many packets to compare.
        #[arg(long, default_value_t = 100_000)]
        pairs: u64,
        /// Where random sequences start.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Build, check, and run every test; needs root for real packets through real interfaces.
    Test {
        /// Run only the tests whose names contain this, and no checks.
        filter: Option<String>,
        /// Run in Debian's kernel of this version (6.1, 6.12, 6.18, newest), emulated; without a
        /// filter a selection.
        #[arg(long, value_name = "VERSION")]
        kernel: Option<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Setup => setup::run().map(|()| true),
        Chore::Build => build::run().map(|()| true),
        Chore::Demo => demo::run().map(|()| true),
        Chore::Bench { peers: true, .. } => bench::peers().map(|()| true),
        Chore::Bench { json, part, .. } => bench::run(json, part).map(|()| true),
        Chore::Check => check::run().map(|()| true),
        Chore::Budget { update } => budget::run(update).map(|()| true),
        Chore::Fuzz { seconds, target, plain, seed, keep } => {
            fuzz::run(&fuzz::Options { seconds, target, plain, seed, keep })
        }
        Chore::Differential { pairs, seed } => differential::run(pairs, seed).map(|()| true),
        Chore::Test { filter, kernel: None } => test::run(filter.as_deref()),
        Chore::Test { filter, kernel: Some(version) } => test::run_in(&version, filter.as_deref()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // What failed has been told.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
