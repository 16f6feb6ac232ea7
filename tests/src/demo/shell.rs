//! Prints and runs the commands.

use anyhow::{Result, bail};

use super::screen::Screen;
use crate::{Secgroup, interrupt};

/// How a command's output is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Dimmed: ids and confirmations.
    Dimmed,
    /// As it is.
    Plain,
}

/// Runs a command that must succeed; returns its standard output.
pub(super) fn run(
    screen: &mut Screen,
    secgroup: &Secgroup<'_>,
    arguments: &[&str],
    show: Show,
) -> Result<String> {
    interrupt::check()?;
    let line = arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    screen.command(&format!("secgroup {line}"))?;
    let output = secgroup.run(arguments);
    if output.code != Some(0) {
        interrupt::check()?;
        bail!("secgroup {line}: {output}");
    }
    screen.output(&output.stdout, show == Show::Dimmed)?;
    Ok(output.stdout)
}

/// Quotes a word with spaces for a shell.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}
