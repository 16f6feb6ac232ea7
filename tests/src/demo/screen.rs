//! The output of the demo, and the number of checks.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::attempt::{Expected, Outcome};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Standard output, in colour on a terminal.
///
/// Writing fails when the reader has closed the pipe. Then the demo ends with an error and cleans
/// up; `println!` would panic.
pub(super) struct Screen {
    colours: bool,
    step: u32,
    columns: bool,
    checks: u32,
    failures: u32,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb;
        Self { colours, step: 0, columns: false, checks: 0, failures: 0 }
    }

    /// Prints a line.
    pub(super) fn print(&mut self, text: &str) -> Result<()> {
        writeln!(io::stdout(), "{text}").context("write to standard output")
    }

    /// Prints the heading of a part.
    pub(super) fn part(&mut self, title: &str) -> Result<()> {
        let line = "=".repeat(title.len());
        self.print(&format!("\n{}", self.paint(BOLD, &format!("{title}\n{line}"))))
    }

    /// Prints the heading of a step.
    pub(super) fn step(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        self.columns = false;
        self.print(&format!("\n{}", self.paint(BOLD, &format!("{}. {title}", self.step))))
    }

    /// Prints a command line.
    pub(super) fn command(&mut self, line: &str) -> Result<()> {
        self.print(&format!("   {}", self.paint(CYAN, &format!("$ {line}"))))
    }

    /// Prints the output of a command, optionally dimmed.
    pub(super) fn output(&mut self, text: &str, dim: bool) -> Result<()> {
        for line in text.lines() {
            let line = if dim { self.paint(DIM, line) } else { line.to_owned() };
            self.print(&format!("   {line}"))?;
        }
        Ok(())
    }

    /// Prints an attempt over both families with the expected and the actual results.
    pub(super) fn check(
        &mut self,
        what: &str,
        expected: Expected,
        actual: &[Outcome; 2],
    ) -> Result<()> {
        // The column headings, once per step.
        if !std::mem::replace(&mut self.columns, true) {
            let line = row("", "", "expected", "IPv4", "IPv6");
            self.print(&self.paint(DIM, &line))?;
        }
        let failed = actual.iter().filter(|outcome| !outcome.is(expected)).count();
        let [v4, v6] = actual.each_ref().map(ToString::to_string);
        self.count(2, failed);
        let line = row(verdict(failed == 0), what, &expected.to_string(), &v4, &v6);
        self.verdict(&line, failed == 0)
    }

    /// Prints a check of a value.
    pub(super) fn fact(&mut self, what: &str, expected: &str, found: &str, ok: bool) -> Result<()> {
        self.count(1, usize::from(!ok));
        let line = format!("   {:<9}{what}: expected {expected}, found {found}", verdict(ok));
        self.verdict(&line, ok)
    }

    /// Prints the summary; whether all checks passed.
    pub(super) fn close(&mut self, took: Duration) -> Result<bool> {
        let Self { checks, failures, .. } = *self;
        let seconds = took.as_secs_f64();
        let line = format!("{checks} checks, {failures} failed, in {seconds:.1} s");
        let colour = if failures == 0 { GREEN } else { RED };
        self.print(&format!("\n{}", self.paint(colour, &line)))?;
        Ok(failures == 0)
    }

    fn count(&mut self, checks: u32, failed: usize) {
        self.checks += checks;
        self.failures += u32::try_from(failed).unwrap_or(u32::MAX);
    }

    /// Prints a line with its result column in colour.
    fn verdict(&mut self, line: &str, ok: bool) -> Result<()> {
        let painted = self.paint(if ok { GREEN } else { RED }, verdict(ok));
        self.print(&line.replacen(verdict(ok), &painted, 1))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const fn verdict(ok: bool) -> &'static str {
    if ok { "ok" } else { "FAILED" }
}

fn row(verdict: &str, what: &str, expected: &str, v4: &str, v6: &str) -> String {
    format!("   {verdict:<9}{what:<41}{expected:<10}{v4:<18}  {v6}").trim_end().to_owned()
}
