//! Where things are. Tools and the kernel object have one place whatever `CARGO_TARGET_DIR` says,
//! because `firewall-user/build.rs` must find the object also when xtask does not run it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The top of the repository. Cargo says it when it runs us: what it said when we were compiled
/// would name the old place of a checkout that was moved.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR");
        let package = package.unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        Path::new(&package).parent().unwrap_or(Path::new(".")).to_owned()
    });
    &ROOT
}

/// What the chores install, away from the contributor's own tools.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Cargo's output for the kernel object: another compiler, so another directory.
pub(crate) fn bpf_target() -> PathBuf {
    root().join("target/bpf")
}

/// The kernel object that the binary embeds.
pub(crate) fn bpf_object() -> PathBuf {
    bpf_target().join("secgroup.bpf.o")
}

/// Cargo's output for everything that runs in userspace; absolute, because cargo and the tests run
/// elsewhere than we were called.
pub(crate) fn target() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").and_then(|named| std::path::absolute(named).ok());
    named.unwrap_or_else(|| root().join("target"))
}

/// The program that a user gets.
pub(crate) fn binary() -> PathBuf {
    target().join("release/secgroup")
}

/// A path as a contributor would type it from the top of the repository.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
