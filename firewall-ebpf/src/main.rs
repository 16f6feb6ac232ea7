//! The kernel program: maps, packet access, entry points. What it decides is in the library.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The target's atomic additions have no stable name.
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    expect(internal_features, reason = "there is no stable way to them")
)]

#[cfg(target_arch = "bpf")]
mod kernel;

/// On any other target the programs do not exist; cargo still wants a binary to have a start.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
