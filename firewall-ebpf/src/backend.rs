//! The tables behind the decision: BPF maps and programs in the kernel (`backend/bpf`, part of the
//! kernel program only), ordinary memory on the host ([`host`]).

#[cfg(any(test, feature = "host"))]
pub mod host;
