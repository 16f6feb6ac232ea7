//! Playwright and axe, with which the tests drive the browser, from npm; the browser is a Debian package. Versions
//! and hashes are in `tests/browser/setup`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::clients;
use crate::paths;

/// The files that decide what is installed.
const INPUTS: [&str; 2] = ["package.json", "package-lock.json"];

/// Where they are; the tests look here.
fn directory() -> PathBuf {
    paths::tools().join("browser")
}

fn inputs() -> PathBuf {
    paths::root().join("tests/browser/setup")
}

/// Written last, with the inputs.
fn stamp() -> PathBuf {
    directory().join("complete")
}

fn wanted() -> Result<String> {
    let read = |name: &&str| {
        let path = inputs().join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    INPUTS.iter().map(read).collect()
}

/// Whether both are there, in the wanted versions.
pub(crate) fn found() -> bool {
    wanted().is_ok_and(|wanted| fs::read_to_string(stamp()).is_ok_and(|stamp| stamp == wanted))
}

/// Their path.
pub(crate) fn describe() -> String {
    paths::short(&directory())
}

/// Installs them, with the node of the clients of EC2.
pub(super) fn install() -> Result<()> {
    // `npm ci` removes what an earlier one left, but not the stamp.
    match fs::remove_file(stamp()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", stamp().display()));
        }
        _ => {}
    }
    clients::npm_ci(&inputs(), &directory())?;
    fs::write(stamp(), wanted()?).with_context(|| format!("write {}", stamp().display()))
}
