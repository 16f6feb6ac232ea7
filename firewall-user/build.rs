//! Puts the kernel object where the library embeds it from.
//!
//! Without an object userspace still builds, so that `cargo check` and `cargo test` work in a fresh
//! clone; commands that load the object then fail with the command that builds it.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// Names another object than the one from `cargo xtask build`.
const VARIABLE: &str = "SECGROUP_BPF_OBJECT";
/// The object from `cargo xtask build`, from the top of the repository.
const DEFAULT: &str = "target/bpf/secgroup.bpf.o";

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let named = env::var_os(VARIABLE).map(PathBuf::from);
    let object = named.clone().unwrap_or_else(default);
    let bytes = match fs::read(&object) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            println!(
                "cargo::warning=no kernel object: `secgroup attach` needs `cargo xtask build`"
            );
            watch_for(&object)?;
            Vec::new()
        }
        bytes => {
            println!("cargo::rerun-if-changed={}", object.display());
            bytes.map_err(|error| format!("read kernel object {}: {error}", object.display()))?
        }
    };
    let out = env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    let embedded = PathBuf::from(out).join("secgroup.bpf.o");
    fs::write(&embedded, bytes)
        .map_err(|error| format!("write {}: {error}", embedded.display()).into())
}

fn default() -> PathBuf {
    // The variable at run time: the one at compile time names the old place of a moved checkout.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    package.parent().unwrap_or(Path::new(".")).join(DEFAULT)
}

/// Makes cargo run this script again when the object appears. Cargo takes a missing file for a
/// changed one and would build the library on every run, so the directory is watched instead, whose
/// time changes with its entries.
fn watch_for(object: &Path) -> Result<(), Box<dyn Error>> {
    let directory = object.parent().unwrap_or(Path::new("."));
    if !directory.exists() {
        fs::create_dir_all(directory)
            .map_err(|error| format!("create {}: {error}", directory.display()))?;
        // Not later than the start of this script, which would be a change for the next run.
        File::open(directory)
            .and_then(|opened| opened.set_modified(SystemTime::UNIX_EPOCH))
            .map_err(|error| format!("set the time of {}: {error}", directory.display()))?;
    }
    println!("cargo::rerun-if-changed={}", directory.display());
    Ok(())
}
