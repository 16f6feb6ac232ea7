//! The only module that uses BPF: loading, attaching, pinning, writing maps, reading counters and flows.
//!
//! A common base and five rooms, each of which uses only what is listed before it:
//!
//! - the base: [`error`], the `bpf(2)` commands that aya lacks (`sys`), the paths of the pins
//!   ([`pins`]) and the embedded kernel object with its maps ([`object`]);
//! - [`host`]: devices, routes, network namespaces, and what the kernel offers;
//! - [`tables`]: the pinned maps, policies, counters, clock;
//! - [`records`]: records of packets that were dropped;
//! - [`hooks`]: programs on devices, by XDP, TCX and clsact;
//! - [`flows`]: the flow tables: list, expire, learn;
//! - [`explain`]: the programs once more, not attached, to be run on a packet;
//! - [`instance`]: all of it as one: created, and removed.

pub mod error;
pub mod explain;
pub mod flows;
pub mod hooks;
pub mod host;
pub mod instance;
pub mod object;
pub mod pins;
pub mod records;
mod sys;
pub mod tables;

pub use error::{DataplaneError, Result};
pub use pins::Pins;
