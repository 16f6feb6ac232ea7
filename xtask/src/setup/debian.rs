//! Packages on Debian.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::exec;

/// Whether this machine is Debian.
pub(crate) fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.lines().any(|line| matches!(line, "ID=debian" | "ID=\"debian\""));
    debian && exec::find("apt-get").is_some()
}

/// Whether xtask runs as root, which may install packages.
pub(crate) fn is_root() -> bool {
    // The owner of this process; std has no geteuid.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Installs packages, or fails with the commands that do. Never removes a conflicting package.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    let packages = names.join(" ");
    if !is_root() {
        bail!(
            "set up: missing packages, which root installs; run\n  \
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

/// Refreshes the package lists. An unreachable archive is a warning only: the installation that follows
/// fails if a package is missing.
pub(crate) fn update() {
    update_by(apt());
}

/// The same for an `apt-get` with separate lists.
pub(crate) fn update_by(mut apt: Command) {
    if let Err(error) = exec::run(apt.arg("update"), "refresh the package lists") {
        eprintln!("warning: {error:#}");
    }
}

/// `apt-get` without prompts; waits until no other one holds the lock.
pub(crate) fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        // The download directory may be writable by root only.
        .args(["-o", "APT::Sandbox::User=root"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Progress; errors go to standard error.
        .stdout(Stdio::null());
    apt
}

/// Downloads a package and unpacks it: nothing is installed. `apt` has the lists.
pub(crate) fn unpack(apt: impl Fn() -> Command, package: &str, into: &Path) -> Result<()> {
    let downloaded = download(&["download", package], into, apt)?;
    downloaded.iter().try_for_each(|archive| extract(archive, into))
}

/// Downloads and unpacks a package and those of its dependencies that this machine lacks.
pub(crate) fn unpack_with_dependencies(package: &str, into: &Path) -> Result<()> {
    let cache = aside(into);
    let partial = cache.join("archives/partial");
    fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
    let command = || {
        let mut apt = apt();
        apt.args(["-o", &format!("Dir::Cache={}", cache.display())]);
        apt
    };
    let line = ["install", "--yes", "--download-only", "--no-install-recommends", package];
    download(&line, &cache.join("archives"), command)?
        .iter()
        .try_for_each(|archive| extract(archive, into))?;
    fs::remove_dir_all(&cache).with_context(|| format!("remove {}", cache.display()))
}

/// Runs apt-get in a directory, again with fresh lists if it fails; returns the packages there.
fn download(line: &[&str], directory: &Path, apt: impl Fn() -> Command) -> Result<Vec<PathBuf>> {
    let doing = format!("download {}", line[line.len() - 1]);
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let run = || exec::run(apt().args(line).current_dir(directory), &doing);
    if run().is_err() {
        update_by(apt());
        run()?;
    }
    let entries = fs::read_dir(directory).with_context(|| doing.clone())?;
    let archives: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    if archives.is_empty() {
        bail!("{doing}: apt-get left no package");
    }
    Ok(archives)
}

fn extract(archive: &Path, into: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(archive).arg(into);
    exec::run(&mut unpack, &format!("unpack {}", archive.display()))?;
    fs::remove_file(archive).with_context(|| format!("remove {}", archive.display()))
}

/// A directory beside another one, for its downloads.
fn aside(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".download");
    PathBuf::from(name)
}
