//! What the kernel program and userspace share, and the whole decision about a packet.
//!
//! Everything here is `no_std` and without I/O. It compiles for the kernel over BPF maps and for the
//! host over ordinary tables (feature `host`), so tests, fuzzers and simulations run the same logic
//! that guards an interface.
//!
//! Four rooms; each uses only those to its left:
//!
//! [`abi`] (keys, records, numbers, layouts) <- [`wire`] (packet access and parsing) <- [`verdict`]
//! (the decision) <- [`backend`] (maps and entry points in the kernel, ordinary tables on the host).
//!
//! [`verdict::decide::decide`] parses a packet, passes exempt traffic, looks up its flow, evaluates
//! the policy for a packet of no flow, and ends in exactly one [`abi::reason::Reason`].

#![cfg_attr(not(any(test, feature = "host", feature = "clap")), no_std)]

pub mod abi;
pub mod backend;
pub mod verdict;
pub mod wire;
