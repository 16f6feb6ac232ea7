//! The kernel program: maps, packet access, entry points. The decision is in the library.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The target's atomic additions have no stable name.
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    expect(internal_features, reason = "there is no stable interface to them")
)]

#[cfg(target_arch = "bpf")]
mod backend {
    mod bpf;
}

/// The programs exist only for BPF; on any other target cargo still needs a `main`.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
