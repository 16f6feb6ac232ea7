//! `cargo xtask build`, and the builds of other chores.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::toolchain::Toolchain;
use crate::{exec, object, paths, setup};

/// Builds the kernel object and the program that a user installs.
pub(crate) fn run() -> Result<()> {
    release()?;
    eprintln!("built {}", paths::short(&paths::released()));
    Ok(())
}

/// Builds the kernel object, which programs embed.
pub(crate) fn kernel_object() -> Result<Toolchain> {
    let toolchain = setup::ensure(setup::Scope::Build)?;
    object::build(&toolchain)?;
    Ok(toolchain)
}

/// Builds the kernel object and, in the `release` profile, the program that a user installs.
pub(crate) fn release() -> Result<Toolchain> {
    let toolchain = kernel_object()?;
    exec::step("userspace, optimised");
    let mut cargo = exec::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "firewall-user"]);
    exec::run(&mut cargo, "build userspace")?;
    verify(&paths::released())?;
    Ok(toolchain)
}

/// Builds the kernel object and, in the `dev` profile, the program that demo and tests run, with
/// other programs of the workspace. A plain `cargo test` uses the same build of every dependency.
pub(crate) fn development(programs: &[&str]) -> Result<Toolchain> {
    let toolchain = kernel_object()?;
    exec::step("userspace");
    let mut cargo = exec::cargo();
    // The whole workspace, for the features that the tests are built with: nothing is built twice.
    cargo.args(["build", "--workspace", "--locked", "--bin", "secgroup"]);
    cargo.args(programs.iter().flat_map(|program| ["--bin", program]));
    exec::run(&mut cargo, "build userspace")?;
    verify(&paths::tested())?;
    Ok(toolchain)
}

/// Fails if a program does not contain the kernel object: userspace builds without one, and then
/// refuses to attach.
fn verify(program: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let object = paths::bpf_object();
    ensure!(
        contains(&read(program)?, &read(&object)?),
        "{} does not contain {}: is SECGROUP_BPF_OBJECT set to another object?",
        paths::short(program),
        paths::short(&object)
    );
    Ok(())
}

/// The compiler aligns an embedded object to at least this many bytes.
const ALIGNMENT: usize = 8;

fn contains(program: &[u8], object: &[u8]) -> bool {
    let Some(start) = object.get(..ALIGNMENT) else { return false };
    let words = program.chunks_exact(ALIGNMENT).enumerate();
    words
        .filter(|(_, word)| *word == start)
        .any(|(index, _)| program[index * ALIGNMENT..].starts_with(object))
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn only_a_whole_aligned_object_counts_as_embedded() {
        let object = b"\x7fELF-and-more";
        let program = [&[0; 16], &object[..], &[0; 5]].concat();
        assert!(contains(&program, object));
        assert!(!contains(&program[..24], object), "a part of it");
        assert!(!contains(&program, b""), "no object");
    }
}
