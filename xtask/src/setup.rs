//! `cargo xtask setup`, and the same for the other chores when something is missing.
//!
//! Each item is installed only if it is not found, so a second set-up is quick. Separate programs go to
//! `target/tools`; the rest are Debian packages.

pub(crate) mod browser;
pub(crate) mod clients;
mod debian;
pub(crate) mod emulator;
mod item;
pub(crate) mod kernels;
mod prometheus;

use anyhow::{Context as _, Result, bail};

use self::item::Item;
use crate::toolchain::{self, Toolchain};
use crate::{exec, linker};

/// The chores that a machine is set up for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// The kernel object and the binary.
    Build,
    /// Also the programs that create networks and send packets.
    Demo,
    /// Also lints of the kernel program, and every program that the tests run.
    Test,
}

/// Sets up everything, and prints each item with its purpose and its path.
pub(crate) fn run() -> Result<()> {
    let toolchain = install(Scope::Test)?;
    clients::start().finish()?;
    for item in item::survey(Scope::Test, Some(&toolchain)) {
        eprintln!("{item}");
    }
    Ok(())
}

/// Sets up what a chore needs; silent and quick when nothing is missing. The clients of EC2 and what drives the
/// browser are separate: [`clients::start`].
pub(crate) fn ensure(scope: Scope) -> Result<Toolchain> {
    install(scope)
}

/// Sets up the compiler of libFuzzer, which no other chore needs.
pub(crate) fn ensure_cxx() -> Result<()> {
    packages(&[item::cxx()])
}

/// Sets up the firewalls that the bench compares with.
pub(crate) fn ensure_peers() -> Result<()> {
    packages(&item::peers())
}

/// Sets up the compiler of the kernel object and its clippy: lints need no linker.
pub(crate) fn ensure_lints() -> Result<Toolchain> {
    packages(&[item::compiler(toolchain::find().as_ref())])?;
    let toolchain = installed()?;
    packages(&[item::clippy(&toolchain)])?;
    Ok(toolchain)
}

fn installed() -> Result<Toolchain> {
    toolchain::find().context(
        "no compiler with `core` for BPF, although its packages are installed: \
         is /usr/bin/rustc the one of rustc-web?",
    )
}

fn install(scope: Scope) -> Result<Toolchain> {
    // Two rounds of packages: the compiler decides which LLVM the linker needs.
    packages(&item::survey(scope, toolchain::find().as_ref()))?;
    let toolchain = installed()?;
    let items = item::survey(scope, Some(&toolchain));
    packages(&items)?;
    if linker::found(&toolchain).is_none() {
        exec::step("building bpf-linker into target/tools (about a minute, once)");
        linker::install(&toolchain)?;
    }
    if scope == Scope::Test && !prometheus::found() {
        exec::step("unpacking Prometheus into target/tools");
        prometheus::install()?;
    }
    Ok(toolchain)
}

/// Sets up the emulator and the kernels.
pub(crate) fn ensure_kernels(wanted: &[&str]) -> Result<Vec<kernels::Kernel>> {
    if !emulator::found() {
        exec::step("unpacking qemu and busybox into target/tools (to boot other kernels in tests)");
        emulator::install()?;
    }
    wanted.iter().map(|version| kernels::ensure(version)).collect()
}

/// Installs the packages of missing items, or fails with the commands that do.
fn packages(items: &[Item]) -> Result<()> {
    let missing: Vec<&Item> =
        items.iter().filter(|item| item.found.is_none() && !item.packages.is_empty()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for item in &missing {
        eprintln!("{item}");
    }
    if !debian::is_debian() {
        let remedies: Vec<&str> = missing.iter().map(|item| item.elsewhere.as_str()).collect();
        bail!("set up: missing on this machine; install\n  {}", remedies.join("\n  "));
    }
    let names: Vec<&str> =
        missing.iter().flat_map(|item| &item.packages).map(String::as_str).collect();
    debian::install(&names)
}
