//! A real Prometheus for the tests, unpacked and not installed: Debian's package would start a
//! service on the contributor's machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::debian;
use crate::{exec, paths};

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Where the package is unpacked; the tests look here, then in `PATH`.
fn directory() -> PathBuf {
    paths::tools().join("prometheus")
}

fn program(name: &str) -> Option<PathBuf> {
    let unpacked = directory().join("usr/bin").join(name);
    if unpacked.exists() { Some(unpacked) } else { exec::find(name) }
}

/// Whether the server and its checker are there.
pub(crate) fn found() -> bool {
    PROGRAMS.iter().all(|name| program(name).is_some())
}

/// Where they are.
pub(crate) fn describe() -> String {
    let paths = PROGRAMS.iter().filter_map(|name| program(name));
    paths.map(|path| paths::short(&path)).collect::<Vec<_>>().join(", ")
}

/// Downloads Debian's package and unpacks it.
pub(crate) fn install() -> Result<()> {
    if !debian::is_debian() {
        bail!("set up: please put `prometheus` and `promtool` into PATH (prometheus.io)");
    }
    let download = paths::tools().join("download");
    // What an interrupted download left would be taken for the package.
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download).with_context(|| format!("create {}", download.display()))?;
    let mut apt = debian::apt();
    apt.args(["download", "prometheus"]).current_dir(&download);
    if exec::run(&mut apt, "download Prometheus").is_err() {
        debian::update();
        exec::run(&mut apt, "download Prometheus")?;
    }
    let package = fs::read_dir(&download)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("download Prometheus: apt-get left no package")?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(package).arg(directory());
    exec::run(&mut unpack, "unpack Prometheus")?;
    fs::remove_dir_all(&download).with_context(|| format!("remove {}", download.display()))
}
