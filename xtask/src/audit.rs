//! `cargo xtask audit`: dependencies and spelling, by tools that are not part of the toolchain.
//!
//! No part of `cargo xtask test`: the tools take minutes to build, and the advisory database needs
//! access to GitHub.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{exec, paths};

/// A tool, and the crate that installs it. Another version may have other checks.
struct Tool {
    program: &'static str,
    install: &'static str,
}

const DENY: Tool = Tool { program: "cargo-deny", install: "cargo-deny@0.20.2" };
const TYPOS: Tool = Tool { program: "typos", install: "typos-cli@1.52.0" };

/// Runs both tools, also after one has failed; `deny.toml` and `typos.toml` configure them.
pub(crate) fn run(advisories: bool) -> Result<()> {
    let missing: Vec<&str> = [DENY, TYPOS]
        .iter()
        .filter(|tool| exec::find(tool.program).is_none())
        .map(|tool| tool.install)
        .collect();
    if !missing.is_empty() {
        bail!("audit: missing tools; run\n  cargo install --locked {}", missing.join(" "));
    }
    let mut failed = Vec::new();
    for (name, mut command) in [("dependencies", deny(advisories)), ("spelling", typos())] {
        exec::step(name);
        if let Err(error) = exec::run(&mut command, name) {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("audit failed: {}", failed.join(", "));
    }
    Ok(())
}

fn deny(advisories: bool) -> Command {
    let mut cargo = exec::cargo();
    cargo.args(["deny", "--workspace", "--locked", "check", "bans", "licenses", "sources"]);
    if advisories {
        cargo.arg("advisories");
    }
    cargo
}

fn typos() -> Command {
    let mut typos = Command::new(TYPOS.program);
    typos.current_dir(paths::root());
    typos
}
