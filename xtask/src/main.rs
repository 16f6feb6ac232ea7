//! The chores of a contributor to secgroup, as `cargo xtask <chore>`.

mod audit;
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

/// The chores of a contributor to secgroup.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Find or install what the other chores need, and print what each item is for.
    Setup,
    /// Build the kernel object, then `target/release/secgroup` with the object inside.
    Build,
    /// Build, then show security groups pass and drop real connections in network namespaces.
    Demo,
    /// Measure packets beside a minimal stateful firewall, large policies, and commands on a host
    /// with many interfaces and groups.
    Bench {
        /// Print JSON, of packets only.
        #[arg(long, conflicts_with = "peers")]
        json: bool,
        /// Measure only this part.
        #[arg(long, conflicts_with_all = ["json", "peers"])]
        part: Option<bench::Part>,
        /// Compare with no firewall, nftables and iptables instead; writes docs/peers.md and
        /// docs/peers.svg.
        #[arg(long)]
        peers: bool,
    },
    /// Check formatting, lints, documentation, and which module uses which; no root needed.
    Check,
    /// Check licences, duplicates, sources and advisories of dependencies, and spelling; needs
    /// cargo-deny and typos.
    Audit {
        /// Do not fetch the advisory database.
        #[arg(long)]
        no_advisories: bool,
    },
    /// Print the verifier's instruction counts by program, beside the committed budget.
    Budget {
        /// Write the measured counts as the new budget.
        #[arg(long)]
        update: bool,
    },
    /// Run arbitrary bytes through the decision logic and the policy compiler, on the host.
    Fuzz {
        /// Seconds for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Only this target: parse, decide, policy, form or sigv4.
        #[arg(long)]
        target: Option<String>,
        /// Random inputs instead of libFuzzer's: many more, without coverage.
        #[arg(long)]
        plain: bool,
        /// The seed of random inputs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Afterwards put inputs that reach new code into tests/fuzz/corpus.
        #[arg(long)]
        keep: bool,
    },
    /// Compare host, kernel, reference evaluator and a simple model on random packets.
    Differential {
        /// The number of packets to compare.
        #[arg(long, default_value_t = 100_000)]
        pairs: u64,
        /// The seed of random sequences.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Build, check, and run every test; needs root.
    ///
    /// Runs the checks of `cargo xtask check`, every suite of the workspace on this kernel, and a
    /// selection in Debian's kernels 6.1 and 6.12 under emulation. The last line counts all of them.
    /// A plain `cargo test` needs neither root nor the kernel object, and prints which suites it
    /// leaves out.
    Test {
        /// Run only the tests whose names contain this, and no checks.
        filter: Option<String>,
        /// The tier for a pull request: formatting and lints, what `cargo test` runs, the decision
        /// cases in the kernel, and a selection of end-to-end tests; prints what it leaves out.
        #[arg(long, conflicts_with_all = ["filter", "kernel"])]
        quick: bool,
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
        Chore::Audit { no_advisories } => audit::run(!no_advisories).map(|()| true),
        Chore::Budget { update } => budget::run(update).map(|()| true),
        Chore::Fuzz { seconds, target, plain, seed, keep } => {
            fuzz::run(&fuzz::Options { seconds, target, plain, seed, keep })
        }
        Chore::Differential { pairs, seed } => differential::run(pairs, seed).map(|()| true),
        Chore::Test { quick: true, .. } => test::run_quick(),
        Chore::Test { filter, kernel: None, .. } => test::run(filter.as_deref()),
        Chore::Test { filter, kernel: Some(version), .. } => {
            test::run_in(&version, filter.as_deref())
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // The report has named what failed.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
