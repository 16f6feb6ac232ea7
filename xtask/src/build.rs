//! `cargo xtask build`.

use anyhow::Result;

use crate::toolchain::Toolchain;
use crate::{exec, object, paths, setup};

/// Builds the kernel object and the program that embeds it.
pub(crate) fn run() -> Result<()> {
    build()?;
    eprintln!("built {}", paths::short(&paths::binary()));
    Ok(())
}

/// The same for other chores, which go on with the compiler.
pub(crate) fn build() -> Result<Toolchain> {
    let toolchain = setup::ensure(setup::Scope::Build)?;
    object::build(&toolchain)?;
    exec::step("userspace");
    let mut cargo = exec::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "firewall-user"]);
    exec::run(&mut cargo, "build userspace")?;
    Ok(toolchain)
}
