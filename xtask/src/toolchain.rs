//! The compiler of the kernel object: one that has `core` for BPF, prebuilt or as source.
//!
//! Userspace builds with the contributor's own stable Rust. The BPF target is not among those that
//! rustup distributes, so its `core` comes from Debian's packages, or from the source component of
//! the contributor's toolchain.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::{exec, paths};

/// The byte order of the machine, which is also that of its kernel.
pub(crate) const TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// The compiler of Debian's `rustc-web`; a rustup proxy of the same name may precede it in `PATH`.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build the kernel object.
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// Its version.
    pub(crate) release: String,
    /// The major version of its LLVM, which must be the linker's.
    pub(crate) llvm: u32,
    /// The form of its `core` for BPF.
    pub(crate) core: Core,
}

impl Toolchain {
    /// The clippy of the compiler.
    pub(crate) fn clippy(&self) -> PathBuf {
        self.rustc.with_file_name("clippy-driver")
    }
}

/// The form of `core` for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// Compiled.
    Prebuilt,
    /// As source, which cargo compiles.
    Source,
}

/// The best compiler on this machine. A prebuilt `core` has priority: then every contributor on the same
/// Debian release builds the object with the same compiler.
pub(crate) fn find() -> Option<Toolchain> {
    let mut candidates: Vec<Toolchain> = Vec::new();
    for rustc in [Some(PathBuf::from(SYSTEM_RUSTC)), own_rustc()].into_iter().flatten() {
        candidates.extend(examine(&rustc));
    }
    let prebuilt = candidates.iter().position(|found| found.core == Core::Prebuilt);
    match prebuilt {
        Some(index) => Some(candidates.swap_remove(index)),
        None => candidates.pop(),
    }
}

/// The target triple of this machine.
pub(crate) fn host() -> Result<String> {
    let rustc = own_rustc().context("no rustc in PATH")?;
    let version = query(&rustc, &["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(|name| name.trim().to_owned()).context("rustc prints no host")
}

/// The compiler of the cargo that runs xtask. The real path of a rustup proxy comes from its sysroot,
/// because a proxy would evaluate the environment again.
fn own_rustc() -> Option<PathBuf> {
    let rustc =
        env::var_os("RUSTC").map_or_else(|| exec::find("rustc"), |path| Some(path.into()))?;
    let sysroot = query(&rustc, &["--print", "sysroot"]).ok()?;
    let real = Path::new(sysroot.trim()).join("bin/rustc");
    Some(if real.exists() { real } else { rustc })
}

fn examine(rustc: &Path) -> Option<Toolchain> {
    let version = query(rustc, &["--version", "--verbose"]).ok()?;
    let (release, llvm) = parse_version(&version)?;
    if !new_enough(&release) {
        return None;
    }
    let core = if has_prebuilt_core(rustc) {
        Core::Prebuilt
    } else if has_core_source(rustc) {
        Core::Source
    } else {
        return None;
    };
    Some(Toolchain { rustc: rustc.to_owned(), release, llvm, core })
}

/// Release and LLVM major out of `rustc --version --verbose`.
fn parse_version(verbose: &str) -> Option<(String, u32)> {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name));
    let release = field("release: ")?.trim().to_owned();
    let llvm = field("LLVM version: ")?.trim().split('.').next()?.parse().ok()?;
    Some((release, llvm))
}

/// Whether a release is at least the workspace's `rust-version`.
fn new_enough(release: &str) -> bool {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    numbers(release) >= numbers(env!("CARGO_PKG_RUST_VERSION"))
}

/// Compiles an empty crate: a `core` of another compiler version is found but not usable.
fn has_prebuilt_core(rustc: &Path) -> bool {
    // A separate directory: rustc replaces its output, even a device such as /dev/null.
    let probe = paths::tools().join("probe");
    if fs::create_dir_all(&probe).is_err() {
        return false;
    }
    let mut command = command(rustc);
    command.args(["--target", TARGET, "--crate-type=lib", "--crate-name=probe", "--emit=metadata"]);
    command.arg("--out-dir").arg(probe).arg("-");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // If the compiler has ended already, its exit status has the result.
        let _ = stdin.write_all(b"#![no_std]");
    }
    child.wait().is_ok_and(|status| status.success())
}

fn has_core_source(rustc: &Path) -> bool {
    query(rustc, &["--print", "sysroot"]).is_ok_and(|sysroot| {
        Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
    })
}

fn query(rustc: &Path, arguments: &[&str]) -> Result<String> {
    exec::output(command(rustc).args(arguments), "query the compiler")
        .with_context(|| format!("compiler {}", rustc.display()))
}

/// A command of a compiler without the library search path that cargo sets, which has the libraries of
/// another compiler.
fn command(rustc: &Path) -> Command {
    let mut command = Command::new(rustc);
    command.env_remove("LD_LIBRARY_PATH");
    command
}

#[cfg(test)]
mod tests {
    use super::{new_enough, parse_version};

    #[test]
    fn version_is_read_from_the_output_of_rustc() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
                    binary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(text), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(parse_version("rustc 1.96.0\n"), None, "no LLVM: cranelift or gcc");
    }

    #[test]
    fn a_compiler_older_than_the_workspace_is_not_used() {
        assert!(!new_enough("1.63.0"));
        assert!(!new_enough("rustc"));
        assert!(new_enough(env!("CARGO_PKG_RUST_VERSION")));
        assert!(new_enough("1.100.0-nightly"));
        assert!(new_enough("2.0.0"));
    }
}
