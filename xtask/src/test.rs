//! `cargo xtask test`: everything there is to test, with one count at the end.

pub(crate) mod report;

use std::io::{BufRead as _, BufReader, Write as _, pipe, stderr};
use std::num::NonZero;
use std::process::Stdio;
use std::thread;

use anyhow::{Context as _, Result};

use self::report::Report;
use crate::{build, check, exec, kernel, machine, object, setup};

/// Builds, checks and tests, here and in other kernels; tells whether everything passed. With a
/// filter: only the tests whose names contain it, here, and no checks.
pub(crate) fn run(filter: Option<&str>) -> Result<bool> {
    machine::prepare("test")?;
    // All of it now, so that a missing package is told before minutes of building.
    setup::ensure(setup::Scope::Test)?;
    let others = if filter.is_none() { &kernel::USUAL[..] } else { &[] };
    let others = setup::ensure_kernels(others)?;
    let toolchain = build::build()?;
    // What generates packets is in it.
    object::build_bench(&toolchain)?;

    let mut report = Report::default();
    if filter.is_none() {
        for mut check in check::all(&toolchain) {
            let result = check.run();
            if let Err(error) = &result {
                eprintln!("error: {error:#}");
            }
            report.check(check.name, result.is_ok());
        }
    }
    exec::step("tests");
    suites(filter, &mut report)?;
    for other in &others {
        kernel::run(other, None, &mut report)?;
    }
    println!("\n{report}");
    Ok(report.passed())
}

/// Builds, and tests in one other kernel: a selection, or all tests whose names contain the filter.
pub(crate) fn run_in(version: &str, filter: Option<&str>) -> Result<bool> {
    setup::ensure(setup::Scope::Test)?;
    let kernels = setup::ensure_kernels(&[version])?;
    build::build()?;
    let mut report = Report::default();
    for kernel in &kernels {
        kernel::run(kernel, filter, &mut report)?;
    }
    println!("\n{report}");
    Ok(report.passed())
}

/// Runs the suites of the workspace through cargo, showing and reading what they print. Both of
/// its streams go through one pipe: cargo names a suite on one and the suite answers on the other,
/// and the order tells which answer is whose.
fn suites(filter: Option<&str>, report: &mut Report) -> Result<()> {
    let (reader, writer) = pipe().context("test: make a pipe")?;
    let mut cargo = exec::cargo();
    cargo
        .args(["test", "--workspace", "--locked", "--no-fail-fast", "--"])
        .args(filter)
        .env("CARGO_TERM_COLOR", "never")
        .env("RUST_TEST_THREADS", threads().to_string())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("test: share a pipe")?)
        .stderr(writer);
    let mut child = cargo.spawn().context("test: cannot start cargo")?;
    // The command holds the pipe's writing end, and with it we would wait for ourselves.
    drop(cargo);

    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("test: read cargo's output")? > 0 {
        // A terminal that went away must not end the run: the exit status still counts.
        let _ = stderr().write_all(&line);
        report.line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    let status = child.wait().context("test: wait for cargo")?;
    report.end(status.success());
    Ok(())
}

/// Tests at one time. Most wait for the kernel or for a timeout, so one more than there are processors.
fn threads() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get) + 1
}
