//! `cargo xtask fuzz`: arbitrary bytes against the decision logic, the policy compiler, AWS documents and the
//! parsers of the EC2 API.
//!
//! libFuzzer needs neither nightly nor cargo-fuzz: coverage is a pass of LLVM that a flag
//! of stable rustc enables, and the library is C++ that cargo builds.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{exec, paths, setup, toolchain};

const PACKAGE: &str = "secgroup-fuzz";
const TARGETS: [&str; 6] = ["parse", "decide", "policy", "form", "sigv4", "document"];

/// The flags of rustc that show libFuzzer which code ran and which comparisons failed.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// How to fuzz.
pub(crate) struct Options {
    /// Seconds for each target.
    pub(crate) seconds: u64,
    /// Only this target.
    pub(crate) target: Option<String>,
    /// Random inputs without coverage.
    pub(crate) plain: bool,
    /// The seed of random inputs.
    pub(crate) seed: u64,
    /// Put inputs that reach new code into the committed corpus.
    pub(crate) keep: bool,
}

/// Fuzzes, and prints a line for each target; returns whether no fault was found.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let wanted = |name: &&str| options.target.as_ref().is_none_or(|target| target == name);
    let targets: Vec<&'static str> = TARGETS.into_iter().filter(wanted).collect();
    if targets.is_empty() {
        bail!("no such fuzz target; there are {}", TARGETS.join(", "));
    }
    let driver = if options.plain { Driver::plain()? } else { Driver::lib_fuzzer(&targets)? };
    let mut lines = Vec::new();
    for target in targets {
        exec::step(&format!("fuzz {target}, {}, for {} s", driver.name(), options.seconds));
        let line = driver.fuzz(target, options)?;
        println!("{line}");
        if options.keep && !options.plain && !line.is_fault {
            driver.keep(target)?;
        }
        lines.push(line);
    }
    println!("{}", total(&driver, &lines));
    Ok(lines.iter().all(|line| !line.is_fault))
}

/// The source of inputs.
enum Driver {
    /// The directory of the programs.
    LibFuzzer(PathBuf),
    /// The program.
    Plain(PathBuf),
}

/// The result of one target.
struct Line {
    target: &'static str,
    driver: &'static str,
    executions: u64,
    /// Frames parsed, packets decided, policy lookups, parameters or requests; libFuzzer does not count them.
    answers: Option<u64>,
    seconds: f64,
    is_fault: bool,
}

impl Driver {
    const fn name(&self) -> &'static str {
        match self {
            Self::LibFuzzer(_) => "libFuzzer",
            Self::Plain(_) => "random without coverage",
        }
    }

    fn plain() -> Result<Self> {
        exec::step("build the fuzz targets");
        let mut cargo = exec::cargo();
        cargo.args(["build", "--profile", "fuzz", "--locked", "--package", PACKAGE]);
        exec::run(&mut cargo, "build the fuzz targets")?;
        Ok(Self::Plain(paths::target().join("fuzz/fuzz-plain")))
    }

    fn lib_fuzzer(targets: &[&str]) -> Result<Self> {
        setup::ensure_cxx()?;
        exec::step("build the fuzz targets with coverage (minutes, the first time)");
        // A directory of its own for other flags, and a named target, so that build scripts are
        // built without them.
        let directory = paths::target().join("libfuzzer");
        let host = toolchain::host()?;
        let mut cargo = exec::cargo();
        cargo
            .args(["build", "--profile", "fuzz", "--locked", "--package", PACKAGE])
            .args(["--features", "libfuzzer", "--target", &host, "--target-dir"])
            .arg(&directory)
            .args(targets.iter().flat_map(|target| ["--bin".to_owned(), format!("fuzz-{target}")]))
            .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
        exec::run(&mut cargo, "build the fuzz targets with coverage")?;
        Ok(Self::LibFuzzer(directory.join(host).join("fuzz")))
    }

    fn fuzz(&self, target: &'static str, options: &Options) -> Result<Line> {
        let begin = Instant::now();
        let mut command = self.command(target, options)?;
        let output = output(&mut command, &format!("fuzz {target}"))?;
        let is_fault = !output.status.success();
        if is_fault {
            // The panic names the input, libFuzzer the file.
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
        }
        let (executions, answers) = match self {
            Self::LibFuzzer(_) => (executed(&String::from_utf8_lossy(&output.stderr)), None),
            Self::Plain(_) => {
                let printed = String::from_utf8_lossy(&output.stdout);
                let mut numbers = printed.split_whitespace().map(|text| text.parse().unwrap_or(0));
                (numbers.next().unwrap_or(0), numbers.next())
            }
        };
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Line { target, driver: self.name(), executions, answers, seconds, is_fault })
    }

    fn command(&self, target: &str, options: &Options) -> Result<Command> {
        let (seconds, seed) = (options.seconds, options.seed);
        match self {
            Self::Plain(program) => {
                let mut command = Command::new(program);
                command.args([target, &seconds.to_string(), &seed.to_string()]);
                Ok(command)
            }
            Self::LibFuzzer(_) => {
                let found = found(target);
                let faults = paths::target().join("libfuzzer/faults");
                create(&found)?;
                create(&faults)?;
                let mut prefix = OsString::from("-artifact_prefix=");
                prefix.push(faults.join(format!("{target}-")));
                let mut command = self.program(target);
                command
                    .arg(format!("-max_total_time={seconds}"))
                    .arg(format!("-seed={seed}"))
                    .args(["-max_len=512", "-print_final_stats=1"])
                    .arg(prefix)
                    // New inputs go to the first directory.
                    .arg(found)
                    .arg(committed(target));
                Ok(command)
            }
        }
    }

    fn program(&self, target: &str) -> Command {
        let (Self::LibFuzzer(directory) | Self::Plain(directory)) = self;
        Command::new(directory.join(format!("fuzz-{target}")))
    }

    /// Reduces the committed corpus to the fewest inputs that reach all code reached so far. Execution
    /// counts are left out: with them there would be thousands of inputs.
    fn keep(&self, target: &str) -> Result<()> {
        let fresh = paths::target().join("libfuzzer/fresh").join(target);
        // An interrupted run may have left inputs.
        let _ = fs::remove_dir_all(&fresh);
        create(&fresh)?;
        let mut command = self.program(target);
        command.args(["-set_cover_merge=1", "-use_counters=0"]).arg(&fresh);
        let merge = output(command.arg(committed(target)).arg(found(target)), "merge a corpus")?;
        if !merge.status.success() {
            bail!("merge the corpus of {target}: {}", String::from_utf8_lossy(&merge.stderr));
        }
        replace(&fresh, &committed(target))
    }
}

/// The corpus in the repository.
fn committed(target: &str) -> PathBuf {
    paths::root().join("tests/fuzz/corpus").join(target)
}

/// The inputs that this machine found besides.
fn found(target: &str) -> PathBuf {
    paths::target().join("libfuzzer/corpus").join(target)
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))
}

/// Makes `to` a copy of `from`, but keeps inputs of faults, whose names have an extension.
fn replace(from: &Path, to: &Path) -> Result<()> {
    for file in fs::read_dir(to).with_context(|| format!("list {}", to.display()))? {
        let path = file?.path();
        if path.extension().is_none() {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    for file in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let file = file?;
        let path = to.join(file.file_name());
        fs::copy(file.path(), &path).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn output(command: &mut Command, doing: &str) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{doing}: cannot start {}", command.get_program().display()))
}

/// The number of inputs that libFuzzer reports.
fn executed(output: &str) -> u64 {
    output
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

fn total(driver: &Driver, lines: &[Line]) -> Line {
    Line {
        target: "total",
        driver: driver.name(),
        executions: lines.iter().map(|line| line.executions).sum(),
        answers: lines.iter().map(|line| line.answers).sum(),
        seconds: lines.iter().map(|line| line.seconds).sum(),
        is_fault: lines.iter().any(|line| line.is_fault),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, driver, executions, answers, seconds, is_fault } = self;
        let each = |count: u64| format!("{count} ({:.0} per second)", count as f64 / seconds);
        write!(f, "{target:<8}{driver}: executions {}", each(*executions))?;
        if let Some(answers) = answers {
            write!(f, ", answers {}", each(*answers))?;
        }
        write!(f, ", {}", if *is_fault { "FAULT FOUND" } else { "no fault" })
    }
}

#[cfg(test)]
mod tests {
    use super::executed;

    #[test]
    fn executions_are_read_from_the_output_of_lib_fuzzer() {
        let output =
            "Done 12 runs in 1 second(s)\nstat::number_of_executed_units: 12\nstat::x: 3\n";
        assert_eq!(executed(output), 12);
        assert_eq!(executed("==1== ERROR"), 0);
    }
}
