//! Packages on Debian.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::exec;

/// Whether this machine takes Debian's packages.
pub(crate) fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.lines().any(|line| matches!(line, "ID=debian" | "ID=\"debian\""));
    debian && exec::find("apt-get").is_some()
}

/// Whether we may install for everybody.
pub(crate) fn is_root() -> bool {
    // The owner of our own process: no system call of our own needed.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Installs packages, or says what to run. Never removes a package to make room for another.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    let packages = names.join(" ");
    if !is_root() {
        bail!(
            "set up: root installs packages; run\n  \
             sudo apt-get update\n  \
             sudo apt-get install --no-install-recommends {packages}"
        );
    }
    exec::step(&format!("apt-get install {packages}"));
    update();
    let mut apt = apt();
    apt.args(["install", "--yes", "--no-remove", "--no-install-recommends"]).args(names);
    exec::run(&mut apt, "install Debian packages")
}

/// Refreshes the package lists. One unreachable archive among several must not end the chore: the
/// installation that follows knows whether anything needed is missing.
pub(crate) fn update() {
    if let Err(error) = exec::run(apt().arg("update"), "refresh the package lists") {
        eprintln!("warning: {error:#}");
    }
}

/// `apt-get` without questions, waiting for another one to end.
pub(crate) fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        // Root may have no other place for a download than one that only root can write to.
        .args(["-o", "APT::Sandbox::User=root"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // What each package does is of no interest here; what goes wrong is told on the other.
        .stdout(Stdio::null());
    apt
}
