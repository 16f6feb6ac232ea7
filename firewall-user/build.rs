//! Puts the kernel object where the library embeds it from.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Names another object than the one that `cargo xtask build` leaves.
const VARIABLE: &str = "SECGROUP_BPF_OBJECT";
/// Where `cargo xtask build` leaves it, from the top of the repository.
const DEFAULT: &str = "target/bpf/secgroup.bpf.o";

fn main() -> ExitCode {
    let object = env::var_os(VARIABLE).map_or_else(default, PathBuf::from);
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed={}", object.display());
    match embed(&object) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!(
                "cargo::error=kernel object {}: {why}: run `cargo xtask build`",
                object.display()
            );
            ExitCode::FAILURE
        }
    }
}

fn default() -> PathBuf {
    // As of now: what was true when this was compiled names the old place of a moved checkout.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    package.parent().unwrap_or(Path::new(".")).join(DEFAULT)
}

fn embed(object: &Path) -> Result<(), String> {
    let out = env::var_os("OUT_DIR").ok_or("cargo set no OUT_DIR")?;
    let bytes = fs::read(object).map_err(|error| error.to_string())?;
    let embedded = PathBuf::from(out).join("secgroup.bpf.o");
    fs::write(&embedded, bytes).map_err(|error| format!("write {}: {error}", embedded.display()))
}
