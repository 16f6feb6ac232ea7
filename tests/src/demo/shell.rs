//! The commands, shown as they are typed and run as they are shown.

use anyhow::{Result, bail};

use super::screen::Screen;
use crate::{Secgroup, interrupt};

/// How a command's output is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Ids and confirmations: aside.
    Aside,
    /// What the command was run for.
    Plain,
}

/// Runs a command that must succeed; returns what it printed.
pub(super) fn run(
    screen: &mut Screen,
    secgroup: &Secgroup<'_>,
    arguments: &[&str],
    show: Show,
) -> Result<String> {
    interrupt::check()?;
    let line = arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    screen.command(&format!("secgroup {line}"))?;
    let answer = secgroup.run(arguments);
    if answer.code != Some(0) {
        interrupt::check()?;
        bail!("secgroup {line}: {answer}");
    }
    screen.output(&answer.stdout, show == Show::Aside)?;
    Ok(answer.stdout)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}
