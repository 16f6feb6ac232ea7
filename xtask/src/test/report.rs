//! The results of checks and suites, counted.
//!
//! The counts come from libtest's own closing lines. A suite without one did not end by itself and
//! counts as one failure. A skipped test is no pass.

use std::fmt;

/// The checks and suites of one run.
#[derive(Default)]
pub(crate) struct Report {
    suites: Vec<Suite>,
    /// Where the suites of the current run of cargo begin, after checks and earlier runs.
    current: usize,
    /// Failures that belong to no suite, such as code that does not compile.
    problems: Vec<String>,
}

struct Suite {
    name: String,
    outcome: Option<Outcome>,
    failures: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Report {
    /// Counts a check as a suite of one.
    pub(crate) fn check(&mut self, name: &str, passed: bool) {
        let outcome = Outcome { passed: u64::from(passed), failed: u64::from(!passed), ignored: 0 };
        let failures = if passed { Vec::new() } else { vec![name.to_owned()] };
        let name = format!("check: {name}");
        self.suites.push(Suite { name, outcome: Some(outcome), failures });
        self.current = self.suites.len();
    }

    /// Reads one line of the output of cargo and the suites.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(name) = suite_name(line) {
            self.suites.push(Suite { name, outcome: None, failures: Vec::new() });
        } else if let Some(suite) = self.suites[self.current..].last_mut() {
            if let Some(outcome) = outcome(line) {
                suite.outcome = Some(outcome);
            } else if let Some(test) = failed_test(line) {
                suite.failures.push(test.to_owned());
            }
        }
    }

    /// Records the exit status of a run of cargo. A failure outside its suites is a separate problem.
    pub(crate) fn end(&mut self, succeeded: bool) {
        let tests = count(&self.suites[self.current..]);
        if !succeeded && tests.failed == 0 {
            self.problems.push("cargo test failed outside the tests (see above)".to_owned());
        } else if tests.passed + tests.failed == 0 {
            self.problems.push("no test ran".to_owned());
        }
        self.current = self.suites.len();
    }

    /// Records a failure outside the suites.
    pub(crate) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Whether everything passed and something ran.
    pub(crate) fn passed(&self) -> bool {
        let count = self.count();
        count.failed == 0 && count.ignored == 0 && count.passed > 0
    }

    fn count(&self) -> Outcome {
        let mut total = count(&self.suites);
        total.failed += u64::try_from(self.problems.len()).unwrap_or(u64::MAX);
        total
    }
}

/// The sum of suites; one that did not end counts as a failure.
fn count(suites: &[Suite]) -> Outcome {
    let mut total = Outcome { passed: 0, failed: 0, ignored: 0 };
    for suite in suites {
        let unfinished = Outcome { passed: 0, failed: 1, ignored: 0 };
        let Outcome { passed, failed, ignored } = suite.outcome.unwrap_or(unfinished);
        total.passed += passed;
        total.failed += failed;
        total.ignored += ignored;
    }
    total
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Suite { name, outcome, failures } in &self.suites {
            match outcome {
                Some(Outcome { passed, failed, ignored }) => {
                    writeln!(
                        out,
                        "{name:<50} {passed:>5} passed {failed:>3} failed {ignored:>3} ignored"
                    )?;
                }
                None => writeln!(out, "{name:<50} DID NOT END")?,
            }
            for failure in failures {
                writeln!(out, "    FAILED {failure}")?;
            }
        }
        for problem in &self.problems {
            writeln!(out, "FAILED {problem}")?;
        }
        let Outcome { passed, failed, ignored } = self.count();
        write!(out, "{passed} passed, {failed} failed")?;
        if ignored > 0 {
            write!(out, ", {ignored} skipped: a skipped test is no pass")?;
        }
        Ok(())
    }
}

/// The suite that cargo starts.
fn suite_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} examples"));
    }
    let (source, binary) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let binary = binary.rsplit('/').next()?;
    // The file is named after its target, with a hash after the last dash.
    let target = binary.rsplit_once('-').map_or(binary, |(target, _hash)| target);
    Some(format!("{target} {}", source.strip_prefix("unittests ").unwrap_or(source)))
}

fn outcome(line: &str) -> Option<Outcome> {
    let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| -> Option<u64> {
        let entry = counts.split("; ").find_map(|entry| entry.strip_suffix(what))?;
        entry.trim().parse().ok()
    };
    Some(Outcome { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::Report;

    fn report(lines: &str, succeeded: bool) -> Report {
        let mut report = Report::default();
        lines.lines().for_each(|line| report.line(line));
        report.end(succeeded);
        report
    }

    fn closing(report: &Report) -> String {
        report.to_string().lines().last().unwrap().to_owned()
    }

    const PASSING: &str = "\
     Running unittests src/lib.rs (target/debug/deps/firewall_ebpf-0123)
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
   Doc-tests firewall_ebpf
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";

    #[test]
    fn suites_add_up() {
        let report = report(PASSING, true);
        assert!(report.passed());
        assert_eq!(closing(&report), "7 passed, 0 failed");
    }

    #[test]
    fn a_failed_test_is_counted_and_named() {
        let lines = "\
     Running tests/life.rs (target/debug/deps/life-0123)
test attach::twice ... FAILED
test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        let report = report(lines, false);
        assert!(!report.passed());
        assert!(report.to_string().contains("life tests/life.rs"), "{report}");
        assert!(report.to_string().contains("FAILED attach::twice"), "{report}");
        assert_eq!(closing(&report), "5 passed, 1 failed");
    }

    #[test]
    fn a_skipped_test_is_no_pass() {
        let report = report(&PASSING.replace("0 ignored", "1 ignored"), true);
        assert!(!report.passed());
        assert_eq!(closing(&report), "7 passed, 0 failed, 2 skipped: a skipped test is no pass");
    }

    #[test]
    fn a_suite_without_a_closing_line_failed() {
        let lines = format!("{PASSING}\n     Running tests/life.rs (target/debug/deps/life-0123)");
        let report = report(&lines, false);
        assert!(!report.passed());
        assert!(report.to_string().contains("DID NOT END"), "{report}");
        assert_eq!(closing(&report), "7 passed, 1 failed");
    }

    #[test]
    fn code_that_does_not_compile_is_a_failure_beside_any_check() {
        for (format, closing_line) in [(true, "1 passed, 1 failed"), (false, "0 passed, 2 failed")]
        {
            let mut report = Report::default();
            report.check("format", format);
            report.line("error[E0308]: mismatched types");
            report.end(false);
            assert!(!report.passed());
            assert_eq!(closing(&report), closing_line);
        }
    }

    #[test]
    fn no_test_is_a_failure() {
        let lines = "\
     Running tests/life.rs (target/debug/deps/life-0123)
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s";
        let mut report = Report::default();
        report.check("format", true);
        lines.lines().for_each(|line| report.line(line));
        report.end(true);
        assert!(!report.passed(), "a check is no test");
        assert_eq!(closing(&report), "1 passed, 1 failed");
    }

    #[test]
    fn each_run_of_cargo_is_counted_by_its_own_suites() {
        let mut report = report(&PASSING.replace("0 failed", "1 failed"), false);
        report.line("error: no test target named `life`");
        report.end(false);
        assert_eq!(closing(&report), "7 passed, 3 failed", "two tests, and a run without a suite");
    }

    #[test]
    fn a_failed_check_is_a_failure_although_the_tests_pass() {
        let mut report = Report::default();
        report.check("format", false);
        PASSING.lines().for_each(|line| report.line(line));
        report.end(true);
        assert!(!report.passed());
        assert_eq!(closing(&report), "7 passed, 1 failed");
    }
}
