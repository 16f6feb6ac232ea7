//! Packages on Debian.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

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
    update_by(apt());
}

/// The same for an `apt-get` with lists of its own.
pub(crate) fn update_by(mut apt: Command) {
    if let Err(error) = exec::run(apt.arg("update"), "refresh the package lists") {
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

/// Downloads a package and unpacks it: nothing is installed. `apt` says from where.
pub(crate) fn unpack(apt: impl Fn() -> Command, package: &str, into: &Path) -> Result<()> {
    let downloaded = download(&["download", package], into, apt)?;
    downloaded.iter().try_for_each(|archive| extract(archive, into))
}

/// Downloads a package and what it needs and this machine lacks, and unpacks all of it.
pub(crate) fn unpack_with_dependencies(package: &str, into: &Path) -> Result<()> {
    let cache = aside(into);
    let partial = cache.join("archives/partial");
    fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
    let asked = || {
        let mut apt = apt();
        apt.args(["-o", &format!("Dir::Cache={}", cache.display())]);
        apt
    };
    let line = ["install", "--yes", "--download-only", "--no-install-recommends", package];
    download(&line, &cache.join("archives"), asked)?
        .iter()
        .try_for_each(|archive| extract(archive, into))?;
    fs::remove_dir_all(&cache).with_context(|| format!("remove {}", cache.display()))
}

/// Runs apt-get in a directory, once more with fresh lists if it fails; returns the packages there.
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

/// A directory beside another one, for what is needed to make that.
fn aside(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".download");
    PathBuf::from(name)
}
