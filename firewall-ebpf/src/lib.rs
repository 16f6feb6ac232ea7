//! What the kernel program and userspace agree on, and the whole decision about a packet.
//!
//! Everything here is pure and `no_std`: it compiles for the kernel over BPF maps and for the
//! host over ordinary tables (feature `host`), so the logic that guards an interface is the logic
//! that tests, fuzzers and the reference runs exercise.
//!
//! The packet's way: [`decide::decide`] parses it ([`parse`]), lets exempt traffic through
//! ([`exempt`]), looks for its flow ([`flow`], [`tcp`], [`window`]), else asks the policy ([`admit`]), and
//! ends in exactly one [`reason::Reason`].

#![cfg_attr(not(any(test, feature = "host", feature = "clap")), no_std)]

pub mod admit;
pub mod bloom;
pub mod decide;
pub mod event;
pub mod exempt;
pub mod flow;
pub mod fragment;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod interface;
pub mod limits;
pub mod packet;
pub mod parse;
pub mod policy;
pub mod prefix;
pub mod reason;
pub mod tables;
pub mod tcp;
#[cfg(feature = "user")]
mod user;
pub mod window;
