//! Running other programs, with errors that name the operation.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// Announces a step.
pub(crate) fn step(text: &str) {
    eprintln!("==> {text}");
}

/// The cargo that runs xtask, so that a toolchain chosen on the command line is kept.
pub(crate) fn cargo() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target());
    command
}

/// Runs a program whose output goes to the terminal.
pub(crate) fn run(command: &mut Command, doing: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{doing}: cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{doing}: {} ended with {status}", command.get_program().display());
    }
    Ok(())
}

/// Runs a program and returns its standard output; its standard error becomes part of the error.
pub(crate) fn output(command: &mut Command, doing: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{doing}: cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr);
        let program = command.get_program().display();
        bail!("{doing}: {program} ended with {}: {}", output.status, printed.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds a program in `PATH`, and in the system directories that a user's `PATH` may lack.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// A command as a shell reads it, with the environment variables that it sets.
pub(crate) fn shell_words(command: &Command) -> String {
    let quoted = |word: &OsStr| format!("'{}'", word.display().to_string().replace('\'', "'\\''"));
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?))));
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(quoted);
    let all: Vec<_> = variables.collect();
    let env = if all.is_empty() { String::new() } else { format!("env {} ", all.join(" ")) };
    format!("{env}{}", words.collect::<Vec<_>>().join(" "))
}
