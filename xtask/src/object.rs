//! The kernel object: firewall-ebpf compiled for BPF.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::toolchain::{self, Core, Toolchain};
use crate::{exec, linker, paths};

const PACKAGE: &str = "firewall-ebpf";
/// The kernel program.
pub(crate) const BIN: &str = "secgroup-ebpf";
/// A minimal stateful firewall, for comparison.
const BENCH: &str = "secgroup-bench-ebpf";

/// Compiles the object to [`paths::bpf_object`], which is written only if its bytes change: cargo builds
/// userspace again after each write.
pub(crate) fn build(toolchain: &Toolchain) -> Result<()> {
    linker::check(toolchain)?;
    exec::step(&format!("kernel object (rustc {}, LLVM {})", toolchain.release, toolchain.llvm));
    let mut cargo = command(toolchain, "build");
    exec::run(cargo.args(["--bin", BIN]), "build the kernel object")?;

    let built = built(BIN);
    let stripped = paths::bpf_target().join("secgroup.stripped.o");
    strip(toolchain, &built, &stripped)?;
    let object = paths::bpf_object();
    let bytes = fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))?;
    if fs::read(&object).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::rename(&stripped, &object).with_context(|| format!("write {}", object.display()))
}

/// Compiles the reference programs of the bench; returns the path of their object.
pub(crate) fn build_bench(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut cargo = command(toolchain, "build");
    exec::run(cargo.args(["--bin", BENCH]), "build the reference programs of the bench")?;
    Ok(built(BENCH))
}

fn built(bin: &str) -> PathBuf {
    paths::bpf_target().join(toolchain::TARGET).join("release").join(bin)
}

/// Removes DWARF, which is six times the rest. BTF, with the source lines that the verifier prints,
/// stays.
fn strip(toolchain: &Toolchain, from: &Path, to: &Path) -> Result<()> {
    let prefix = linker::llvm_prefix(toolchain.llvm)
        .with_context(|| format!("strip the kernel object: no LLVM {}", toolchain.llvm))?;
    let mut strip = Command::new(prefix.join("bin/llvm-strip"));
    strip.arg("--strip-debug").arg(from).arg("-o").arg(to);
    exec::run(&mut strip, "strip the kernel object")
}

/// A cargo command about the kernel program, with the compiler and the flags of the kernel object.
pub(crate) fn command(toolchain: &Toolchain, verb: &str) -> Command {
    let mut cargo = exec::cargo();
    cargo
        .args([verb, "--package", PACKAGE, "--release", "--locked"])
        .args(["--target", toolchain::TARGET, "--target-dir"])
        .arg(paths::bpf_target())
        .env("RUSTC", &toolchain.rustc)
        // The BPF target is unstable Rust; the kernel program uses unstable intrinsics besides.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags())
        // BTF and the verifier's line numbers come from debug information. Not a flag of rustc: cargo
        // strips debug information that its profile does not have.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "full")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("LD_LIBRARY_PATH");
    if toolchain.core == Core::Source {
        cargo.args(["-Z", "build-std=core"]);
    }
    cargo
}

fn rustflags() -> String {
    let arch = if ARCH.starts_with("riscv64") { "riscv64" } else { ARCH };
    [
        // The registers of a probe's arguments, which aya-ebpf requires even without probes.
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Clink-arg=--btf".to_owned(),
        // The linker inlines only within one codegen unit.
        "-Ccodegen-units=1".to_owned(),
        format!("-Clinker={}", linker::path().display()),
        // Without it every memset becomes a call to a loop over bytes.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        // Atomic operations that return a value, and 32-bit jumps: Linux 5.12.
        "-Ctarget-cpu=v3".to_owned(),
        "-Cpanic=abort".to_owned(),
    ]
    .join("\x1f")
}
