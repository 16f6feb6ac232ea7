//! Paths. Tools and the kernel object have one place for any `CARGO_TARGET_DIR`, because
//! `firewall-user/build.rs` must find the object also when xtask does not run it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The top of the repository, from cargo's variable at run time: the one at compile time names the old
/// place of a checkout that was moved.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR");
        let package = package.unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        Path::new(&package).parent().unwrap_or(Path::new(".")).to_owned()
    });
    &ROOT
}

/// The tools that chores install, apart from the contributor's own.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Cargo's output for the kernel object, which another compiler builds.
pub(crate) fn bpf_target() -> PathBuf {
    root().join("target/bpf")
}

/// The kernel object that the binary embeds.
pub(crate) fn bpf_object() -> PathBuf {
    bpf_target().join("secgroup.bpf.o")
}

/// Cargo's output for userspace; absolute, because cargo and the tests run in other directories.
pub(crate) fn target() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").and_then(|named| std::path::absolute(named).ok());
    named.unwrap_or_else(|| root().join("target"))
}

/// Cargo's output in the `dev` profile, in which demo and tests are built.
pub(crate) fn debug() -> PathBuf {
    target().join("debug")
}

/// The program that demo and tests run.
pub(crate) fn tested() -> PathBuf {
    debug().join("secgroup")
}

/// The program that a user installs.
pub(crate) fn released() -> PathBuf {
    target().join("release/secgroup")
}

/// A path as a contributor would type it from the top of the repository.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
