//! What the audience sees, and the count of what was checked.

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

/// Standard output, with colours where they are welcome.
///
/// Writing may fail, when the reader has gone, and then the demo ends like any other failure, by
/// unwinding and cleaning up; `println!` would panic.
pub(super) struct Screen {
    colours: bool,
    step: u32,
    columns: bool,
    checks: u32,
    differences: u32,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb;
        Self { colours, step: 0, columns: false, checks: 0, differences: 0 }
    }

    /// A line.
    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        writeln!(io::stdout(), "{text}").context("write to standard output")
    }

    /// A heading over several steps.
    pub(super) fn part(&mut self, title: &str) -> Result<()> {
        let line = "=".repeat(title.len());
        self.say(&format!("\n{}", self.paint(BOLD, &format!("{title}\n{line}"))))
    }

    /// A heading over commands and checks.
    pub(super) fn step(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        self.columns = false;
        self.say(&format!("\n{}", self.paint(BOLD, &format!("{}. {title}", self.step))))
    }

    /// A command, as it would be typed.
    pub(super) fn command(&mut self, line: &str) -> Result<()> {
        self.say(&format!("   {}", self.paint(CYAN, &format!("$ {line}"))))
    }

    /// What a command printed, as it is or dimmed.
    pub(super) fn output(&mut self, text: &str, dim: bool) -> Result<()> {
        for line in text.lines() {
            let line = if dim { self.paint(DIM, line) } else { line.to_owned() };
            self.say(&format!("   {line}"))?;
        }
        Ok(())
    }

    /// What was tried, over both families, with what was expected and what happened.
    pub(super) fn check(
        &mut self,
        what: &str,
        expected: Expected,
        happened: &[Outcome; 2],
    ) -> Result<()> {
        // The words over the columns, once in each step.
        if !std::mem::replace(&mut self.columns, true) {
            let line = row("", "", "expected", "IPv4", "IPv6");
            self.say(&self.paint(DIM, &line))?;
        }
        let differ = happened.iter().filter(|outcome| !outcome.is(expected)).count();
        let [v4, v6] = happened.each_ref().map(ToString::to_string);
        self.count(2, differ);
        let line = row(verdict(differ == 0), what, &expected.to_string(), &v4, &v6);
        self.verdict(&line, differ == 0)
    }

    /// A check of anything else.
    pub(super) fn fact(&mut self, what: &str, expected: &str, found: &str, ok: bool) -> Result<()> {
        self.count(1, usize::from(!ok));
        let line = format!("   {:<9}{what}: expected {expected}, found {found}", verdict(ok));
        self.verdict(&line, ok)
    }

    /// The closing line; whether nothing differed.
    pub(super) fn close(&mut self, took: Duration) -> Result<bool> {
        let Self { checks, differences, .. } = *self;
        let seconds = took.as_secs_f64();
        let line = format!("{checks} checks, {differences} differed, in {seconds:.1} s");
        let colour = if differences == 0 { GREEN } else { RED };
        self.say(&format!("\n{}", self.paint(colour, &line)))?;
        Ok(differences == 0)
    }

    fn count(&mut self, checks: u32, differ: usize) {
        self.checks += checks;
        self.differences += u32::try_from(differ).unwrap_or(u32::MAX);
    }

    /// Prints a line with its first word, the verdict, in colour.
    fn verdict(&mut self, line: &str, ok: bool) -> Result<()> {
        let painted = self.paint(if ok { GREEN } else { RED }, verdict(ok));
        self.say(&line.replacen(verdict(ok), &painted, 1))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const fn verdict(ok: bool) -> &'static str {
    if ok { "ok" } else { "DIFFERS" }
}

fn row(verdict: &str, what: &str, expected: &str, v4: &str, v6: &str) -> String {
    format!("   {verdict:<9}{what:<41}{expected:<10}{v4:<18}  {v6}").trim_end().to_owned()
}
