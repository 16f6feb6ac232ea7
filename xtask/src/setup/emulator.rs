//! The emulator that boots other kernels: qemu, unpacked because its package may conflict with installed
//! ones, and busybox, the first program in such a kernel.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::debian;
use crate::{exec, paths};

const PROGRAM: &str = "qemu-system-x86_64";

fn qemu_directory() -> PathBuf {
    paths::tools().join("qemu")
}

/// Statically linked.
pub(crate) fn busybox() -> PathBuf {
    paths::tools().join("busybox/bin/busybox")
}

/// Whether both are found.
pub(crate) fn found() -> bool {
    (unpacked().exists() || exec::find(PROGRAM).is_some()) && busybox().exists()
}

fn unpacked() -> PathBuf {
    qemu_directory().join("usr/bin").join(PROGRAM)
}

/// The emulator, with its libraries and its firmware.
pub(crate) fn qemu() -> Command {
    let directory = qemu_directory();
    if !unpacked().exists() {
        return Command::new(exec::find(PROGRAM).unwrap_or_else(|| PROGRAM.into()));
    }
    let mut qemu = Command::new(unpacked());
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
    let libraries = libraries.map(|place| directory.join(place).display().to_string());
    qemu.env("LD_LIBRARY_PATH", libraries.join(":"));
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        qemu.arg("-L").arg(directory.join(firmware));
    }
    qemu
}

/// Downloads and unpacks missing ones.
pub(crate) fn install() -> Result<()> {
    if !debian::is_debian() {
        bail!(
            "set up: tests in other kernels need Debian; `cargo xtask test --quick` runs without them"
        );
    }
    if exec::find(PROGRAM).is_none() && !unpacked().exists() {
        debian::unpack_with_dependencies("qemu-system-x86", &qemu_directory())?;
    }
    if !busybox().exists() {
        debian::unpack(debian::apt, "busybox-static", &paths::tools().join("busybox"))?;
    }
    Ok(())
}
