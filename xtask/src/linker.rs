//! bpf-linker, which links the compiler's bitcode into the kernel object. It is built for the LLVM of
//! the compiler and installed in `target/tools`, apart from a contributor's own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::toolchain::Toolchain;
use crate::{exec, paths};

/// The release that the kernel object is tested with.
const VERSION: &str = "0.13.0";

/// The LLVM majors that this release can be built for.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// The path of the installed linker.
pub(crate) fn path() -> PathBuf {
    paths::tools().join("bin/bpf-linker")
}

/// A file beside the linker with its version and LLVM, which the linker does not print.
fn stamp() -> PathBuf {
    paths::tools().join("bpf-linker.version")
}

/// The description of the installed linker; `None` if none of the right version is installed.
pub(crate) fn found(toolchain: &Toolchain) -> Option<String> {
    let stamp = fs::read_to_string(stamp()).ok()?;
    let (version, llvm) = parse_stamp(&stamp)?;
    let usable = path().exists() && version == VERSION && agree(toolchain, llvm).is_ok();
    usable.then(|| format!("bpf-linker {version}, LLVM {llvm}, {}", paths::short(&path())))
}

/// The directory of an LLVM major version, with headers and libraries.
pub(crate) fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let named = env::var_os("LLVM_PREFIX").map(PathBuf::from);
    named.into_iter().chain([PathBuf::from(format!("/usr/lib/llvm-{major}"))]).find(|prefix| {
        let config = prefix.join("bin/llvm-config");
        let version = exec::output(
            std::process::Command::new(config).arg("--version"),
            "get the version of LLVM",
        );
        version.is_ok_and(|text| text.split('.').next() == Some(&major.to_string()))
    })
}

/// Builds the linker for the compiler's LLVM.
pub(crate) fn install(toolchain: &Toolchain) -> Result<()> {
    let major = toolchain.llvm;
    if !LLVM.contains(&major) {
        bail!(
            "bpf-linker {VERSION} supports LLVM {} to {}, rustc {} has LLVM {major}: \
             use a compiler between",
            LLVM.start(),
            LLVM.end(),
            toolchain.release
        );
    }
    let prefix = llvm_prefix(major).with_context(|| {
        format!("build bpf-linker: no LLVM {major} with headers found; set LLVM_PREFIX to it")
    })?;
    let mut cargo = exec::cargo();
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force", "--quiet"])
        .args(["--no-default-features", "--features", &format!("llvm-{major}"), "--root"])
        .arg(paths::tools())
        .env("LLVM_PREFIX", prefix)
        // Keeps the linker's dependencies out of a shared target directory.
        .env_remove("CARGO_TARGET_DIR");
    exec::run(&mut cargo, "build bpf-linker")?;
    fs::write(stamp(), format!("{VERSION} {major}\n"))
        .with_context(|| format!("write {}", paths::short(&stamp())))
}

/// Fails if compiler and linker have different LLVM versions.
pub(crate) fn check(toolchain: &Toolchain) -> Result<()> {
    let stamp = fs::read_to_string(stamp())
        .with_context(|| format!("read {}: run `cargo xtask setup`", paths::short(&stamp())))?;
    let (_, llvm) = parse_stamp(&stamp).context("the linker's version file is damaged")?;
    agree(toolchain, llvm)
}

fn parse_stamp(stamp: &str) -> Option<(&str, u32)> {
    let (version, llvm) = stamp.trim().split_once(' ')?;
    Some((version, llvm.parse().ok()?))
}

/// LLVM reads bitcode of its own version and of older ones; xtask requires equal versions, so that two
/// contributors build the same object.
fn agree(toolchain: &Toolchain, linker_llvm: u32) -> Result<()> {
    if toolchain.llvm == linker_llvm {
        return Ok(());
    }
    bail!(
        "rustc {} ({}) has LLVM {}, {} has LLVM {linker_llvm}: \
         run `cargo xtask setup`, which rebuilds the linker",
        toolchain.release,
        toolchain.rustc.display(),
        toolchain.llvm,
        paths::short(Path::new(&path())),
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{agree, parse_stamp};
    use crate::toolchain::{Core, Toolchain};

    fn toolchain(release: &str, llvm: u32) -> Toolchain {
        let rustc = PathBuf::from("/usr/bin/rustc");
        Toolchain { rustc, release: release.to_owned(), llvm, core: Core::Prebuilt }
    }

    #[test]
    fn the_same_llvm_agrees() {
        agree(&toolchain("1.96.0", 22), 22).unwrap();
    }

    #[test]
    fn another_llvm_is_refused_in_one_line_that_names_both() {
        for (release, llvm, linker) in [("1.99.0", 23, 22), ("1.93.0", 21, 22)] {
            let error = agree(&toolchain(release, llvm), linker).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "rustc {release} (/usr/bin/rustc) has LLVM {llvm}, target/tools/bin/bpf-linker \
                     has LLVM {linker}: run `cargo xtask setup`, which rebuilds the linker"
                )
            );
        }
    }

    #[test]
    fn a_damaged_stamp_is_no_version() {
        assert_eq!(parse_stamp("0.13.0 22\n"), Some(("0.13.0", 22)));
        assert_eq!(parse_stamp("0.13.0"), None);
        assert_eq!(parse_stamp("0.13.0 llvm"), None);
    }
}
