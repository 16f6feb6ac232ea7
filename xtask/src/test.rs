//! `cargo xtask test`: every test, with one count at the end.

pub(crate) mod report;
mod suites;

use std::io::{BufRead as _, BufReader, Write as _, pipe, stderr};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};

use self::report::Report;
use self::suites::{Quick, SUITES};
use crate::check::{self, Check};
use crate::kernel::guest;
use crate::{build, exec, kernel, machine, object, setup};

/// Set for the tests that a chore runs: only a plain `cargo test` prints what it leaves out.
const XTASK: &str = "SECGROUP_XTASK_TEST";

/// Builds, checks and tests, in this kernel and in others; returns whether everything passed. With a
/// filter: only the tests whose names contain it, in this kernel, and no checks.
pub(crate) fn run(filter: Option<&str>) -> Result<bool> {
    machine::prepare("test")?;
    // All of it now, so that a missing package fails before minutes of building.
    setup::ensure(setup::Scope::Test)?;
    let clients = setup::clients::start();
    let others = if filter.is_none() { &kernel::USUAL[..] } else { &[] };
    let others = setup::ensure_kernels(others)?;
    if filter.is_none_or(|filter| filter.contains(guest::TESTS)) {
        for kernel in setup::ensure_kernels(&[guest::KERNEL])? {
            guest::build(&kernel)?;
        }
    }
    let toolchain = build::development(&[])?;
    // The generator of packets is in it.
    object::build_bench(&toolchain)?;
    clients.finish()?;

    let mut report = Report::default();
    if filter.is_none() {
        run_checks(check::all(&toolchain), &mut report);
    }
    exec::step("tests");
    let mut cargo = cargo_test();
    run_suites(cargo.arg("--workspace").arg("--").args(filter), &mut report)?;
    for other in &others {
        kernel::run(other, None, &mut report)?;
    }
    println!("\n{report}");
    Ok(report.passed())
}

/// The tier for a pull request; returns whether everything in it passed.
pub(crate) fn run_quick() -> Result<bool> {
    machine::prepare("test --quick")?;
    setup::ensure(setup::Scope::Demo)?;
    let lints = setup::ensure_lints()?;
    build::development(&[])?;

    let mut report = Report::default();
    run_checks(check::quick(&lints), &mut report);
    exec::step("tests that need no root");
    run_suites(&mut cargo_test(), &mut report)?;
    for suite in SUITES.iter().filter(|suite| suite.quick != Quick::None) {
        exec::step(&format!("suite {}", suite.name));
        let mut cargo = cargo_test();
        // The whole workspace, for the features that the other tests are built with.
        cargo.args(["--workspace", "--test", suite.name, "--"]);
        if let Quick::Some(filters) = suite.quick {
            cargo.args(filters);
        }
        run_suites(&mut cargo, &mut report)?;
    }
    println!("\nleft out; `cargo xtask test` runs it:");
    for suite in SUITES.iter().filter(|suite| suite.quick != Quick::All) {
        let part = if suite.quick == Quick::None { "" } else { "most of " };
        println!("  {part}{} needs {}", suite.name, suite.needs);
    }
    println!("  the documentation check, and tests in other kernels\n\n{report}");
    Ok(report.passed())
}

/// Builds, and tests in one other kernel: a selection, or all tests whose names contain the filter.
pub(crate) fn run_in(version: &str, filter: Option<&str>) -> Result<bool> {
    setup::ensure(setup::Scope::Test)?;
    let kernels = setup::ensure_kernels(&[version])?;
    build::development(&[])?;
    let mut report = Report::default();
    for kernel in &kernels {
        kernel::run(kernel, filter, &mut report)?;
    }
    println!("\n{report}");
    Ok(report.passed())
}

fn run_checks(checks: Vec<Check>, report: &mut Report) {
    for mut check in checks {
        let result = check.run();
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        report.check(check.name, result.is_ok());
    }
}

/// `cargo test` of the default members, or of what the caller adds.
fn cargo_test() -> Command {
    let mut cargo = exec::cargo();
    cargo.args(["test", "--locked", "--no-fail-fast"]);
    cargo
}

/// Runs suites through cargo, and shows and reads what they print. Both output streams go through
/// one pipe: cargo names a suite on one and the suite prints its result on the other, so the order
/// assigns each result to its suite.
fn run_suites(cargo: &mut Command, report: &mut Report) -> Result<()> {
    let (reader, writer) = pipe().context("test: create a pipe")?;
    cargo
        .env("CARGO_TERM_COLOR", "never")
        .env("RUST_TEST_THREADS", threads().to_string())
        .env(XTASK, "1")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("test: share a pipe")?)
        .stderr(writer);
    let mut child = cargo.spawn().context("test: cannot start cargo")?;
    // The command holds the pipe's writing end, which would keep the reader from its end.
    cargo.stdout(Stdio::null()).stderr(Stdio::null());

    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("test: read cargo's output")? > 0 {
        // A closed terminal does not end the run: the exit status still counts.
        let _ = stderr().write_all(&line);
        report.line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    let status = child.wait().context("test: wait for cargo")?;
    report.end(status.success());
    Ok(())
}

/// Tests at one time: one more than processors, because most tests wait for a timeout or the kernel.
fn threads() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get) + 1
}
