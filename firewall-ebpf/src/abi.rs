//! What the kernel program and userspace share byte for byte: keys and records of maps, the layout of
//! a compiled policy, numbers of reasons, events and states, limits, and the formats that the helper
//! programs read.
//!
//! Nothing here decides anything. `tests/abi.rs` computes a digest of every size, offset, number and
//! name in this room and fails when the digest changes without [`limits::ABI_VERSION`].

pub mod address;
pub mod block;
pub mod bloom;
pub mod counter;
pub mod event;
pub mod filter;
pub mod flow;
pub mod fragment;
pub mod helper;
pub mod interface;
pub mod limits;
#[cfg(feature = "user")]
mod pod;
pub mod policy;
pub mod port;
pub mod prefix;
pub mod reason;
pub mod record;
pub mod state;
