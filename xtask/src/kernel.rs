//! Tests in other kernels: each boots under emulation, from memory, with the built tests inside.
//!
//! The machine in the emulator prints on its serial line what cargo prints here, so the report counts
//! it the same way.

mod cpio;
pub(crate) mod guest;
mod image;

use std::io::{BufRead as _, BufReader, Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::setup::emulator;
use crate::setup::kernels::Kernel;
use crate::test::report::Report;
use crate::{exec, paths};

/// The kernels of a plain `cargo xtask test`: Debian 12's own and its newer one.
pub(crate) const USUAL: [&str; 2] = ["6.1", "6.12"];

/// The tests that run in each without a filter: the verifier, verdicts, records, and the life cycle over veth.
/// A selection, because emulation is slow; the words are parts of tests' names.
const SELECTION: [(&str, &[&str]); 3] = [
    ("decision_cases", &["a_flow_counts", "kernel_of_a_host"]),
    ("decision_records", &["a_self_test"]),
    (
        "e2e",
        &[
            "clsact::a_kernel_without_tcx",
            "clsact::no_packet_passes",
            "clsact::the_last_detach",
            "clsact::filters_missing",
            "clsact::filters_of_other_programs",
            "hooks::native_xdp_filters",
            "hooks::tcx_or_its_fallback",
            "lifetime::enforcement_continues",
            "lifetime::flows_and_counters",
            "lifetime::the_last_detach",
            "memory::status_reports",
            "records::drops_are_recorded_at_tc",
        ],
    ),
];

/// The time limits of a suite and of a whole machine.
const SUITE_SECONDS: u64 = 900;
const MACHINE: Duration = Duration::from_secs(1500);

/// No mitigations, which slow emulation down, and no watchdog, which reports a stuck processor on a busy
/// host.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off init_on_alloc=0 nowatchdog";

/// The last line of a machine that ran every suite.
const END: &str = "every suite has run";
/// The prefix of a warning in the machine's kernel log.
const KERNEL_WARNING: &str = "kernel warning:";

/// A suite in the machine, and which of its tests.
struct Suite {
    name: String,
    source: String,
    binary: PathBuf,
    filters: Vec<String>,
}

/// Boots a kernel and runs tests in it; the results go into the report. With a filter: all tests whose
/// names contain it.
pub(crate) fn run(kernel: &Kernel, filter: Option<&str>, report: &mut Report) -> Result<()> {
    let Kernel { release, .. } = kernel;
    exec::step(&format!("tests in Linux {release} (emulated)"));
    let suites = suites(filter)?;
    let image = image::build(kernel, &suites)?;
    let mut qemu = emulator::qemu();
    // An old processor, which has fewer instructions to emulate.
    qemu.args(["-machine", "q35", "-cpu", "Nehalem", "-accel", "tcg,thread=multi", "-smp", "2"])
        .args(["-m", "3G", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-append", COMMAND_LINE])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(&image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut machine = qemu.spawn().context("start the emulator")?;
    let ended = follow_output(&mut machine, report);
    // Stops it if it still runs.
    let _ = machine.kill();
    machine.wait().context("wait for the emulator")?;
    if let Err(why) = ended? {
        report.problem(format!("Linux {release}: the machine {why} (see above)"));
    }
    Ok(())
}

/// Shows and counts the output of a machine until it ends; the inner error is an abnormal end.
fn follow_output(machine: &mut Child, report: &mut Report) -> Result<Result<(), &'static str>> {
    let output = machine.stdout.take().context("read the serial line")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    let deadline = Instant::now() + MACHINE;
    let mut reached_end = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                // A closed terminal does not end the run.
                let _ = writeln!(stderr(), "{line}");
                reached_end |= line == END;
                if line.starts_with(KERNEL_WARNING) {
                    report.problem(line.clone());
                }
                report.line(&line);
            }
            Err(RecvTimeoutError::Timeout) => return Ok(Err("took too long and was stopped")),
            Err(RecvTimeoutError::Disconnected) if reached_end => return Ok(Ok(())),
            Err(RecvTimeoutError::Disconnected) => return Ok(Err("ended before its last suite")),
        }
    }
}

/// The built suites that are to run.
fn suites(filter: Option<&str>) -> Result<Vec<Suite>> {
    let mut cargo = exec::cargo();
    cargo.args(["test", "--package", "secgroup-tests", "--locked", "--no-run", "--tests"]);
    cargo.env("CARGO_TERM_COLOR", "never").stderr(Stdio::piped()).stdout(Stdio::null());
    let output = cargo.stdin(Stdio::null()).output().context("build the tests: start cargo")?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "build the tests: {printed}");
    let built: Vec<_> = printed.lines().filter_map(executable).collect();
    let chosen = |wanted: &dyn Fn(&str) -> Option<Vec<String>>| {
        let suites = built.iter().filter_map(|(source, binary)| {
            let name = binary.file_name()?.to_str()?.rsplit_once('-')?.0.to_owned();
            let filters = wanted(&name)?;
            Some(Suite { name, source: source.clone(), binary: binary.clone(), filters })
        });
        suites.collect::<Vec<_>>()
    };
    let Some(filter) = filter else {
        let suites = chosen(&|name| {
            let (_, tests) = SELECTION.iter().find(|(suite, _)| *suite == name)?;
            Some(tests.iter().map(|&test| test.to_owned()).collect())
        });
        ensure!(suites.len() == SELECTION.len(), "a suite of the selection does not exist");
        for suite in &suites {
            for test in &suite.filters {
                ensure!(has(suite, test)?, "{}: no test is called {test}", suite.name);
            }
        }
        return Ok(suites);
    };
    let mut suites = chosen(&|name| depends_on_kernel(name).then(|| vec![filter.to_owned()]));
    let mut found = Vec::new();
    for suite in suites.drain(..) {
        if has(&suite, filter)? {
            found.push(suite);
        }
    }
    ensure!(!found.is_empty(), "no test that runs in a kernel has {filter} in its name");
    Ok(found)
}

/// Whether a suite has a test with this in its name.
fn has(suite: &Suite, test: &str) -> Result<bool> {
    let mut list = Command::new(&suite.binary);
    list.args(["--list", "--format", "terse", test]);
    Ok(!exec::output(&mut list, "list tests")?.trim().is_empty())
}

/// Whether a suite depends on the kernel; the others have the same result in every kernel.
fn depends_on_kernel(suite: &str) -> bool {
    suite == "e2e" || suite == "harness" || suite.starts_with("decision_")
}

/// `  Executable tests/e2e/main.rs (target/debug/deps/e2e-0123)`
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let line = line.trim_start().strip_prefix("Executable ")?;
    let (source, binary) = line.strip_suffix(')')?.split_once(" (")?;
    let source = source.strip_prefix("unittests ").unwrap_or(source);
    Some((source.to_owned(), paths::root().join(Path::new(binary))))
}
