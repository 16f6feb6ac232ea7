//! `cargo xtask bench`: the cost of packets, policies and commands.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{build, exec, machine, object, paths, setup};

/// A part of the bench.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    /// A packet, by hook, family and number of rules
    Packets,
    /// A packet by a network ACL and by block lists
    Deny,
    /// A dropped packet, recorded and not
    Records,
    /// Admission by large policies, changes of them, and the memory of rules and flows
    Policies,
    /// Commands with a prefix list of a million entries, and beside it
    Lists,
    /// Commands on a host with 64 interfaces and 2,500 groups
    Interfaces,
    /// Calls of the EC2 API with 2,500 groups of 60 rules
    Api,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Deny => "deny",
            Self::Records => "records",
            Self::Policies => "policies",
            Self::Lists => "lists",
            Self::Interfaces => "interfaces",
            Self::Api => "api",
        }
    }
}

/// Executes the bench, which prints tables or JSON on standard output. Returns only on failure.
pub(crate) fn run(json: bool, part: Option<Part>) -> Result<()> {
    machine::prepare("bench")?;
    setup::ensure(setup::Scope::Demo)?;
    let mode = if json { "json" } else { part.map_or("all", Part::name) };
    execute(compile("bench")?.arg(mode))
}

/// Executes the comparison with peers. Returns only on failure.
pub(crate) fn peers() -> Result<()> {
    machine::prepare("bench --peers")?;
    setup::ensure(setup::Scope::Demo)?;
    setup::ensure_peers()?;
    execute(compile("peers")?.arg(paths::root().join("docs")))
}

/// Replaces this process, so that Ctrl-C and the exit code are the bench's own.
fn execute(bench: &mut Command) -> Result<()> {
    Err(bench.exec()).context("start the bench")
}

/// Builds everything and a measuring program of the tests, in the `release` profile; its first
/// argument is the object with the reference programs.
fn compile(bin: &str) -> Result<Command> {
    let object = object::build_bench(&build::release()?)?;
    let mut cargo = exec::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "secgroup-tests", "--bin", bin]);
    exec::run(&mut cargo, "build the bench")?;
    exec::step("bench");
    let mut bench = Command::new(paths::target().join("release").join(bin));
    bench.arg(object);
    Ok(bench)
}
