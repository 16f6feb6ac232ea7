//! The only place that touches the kernel: load, attach, pin, write maps, read counters and flows.

pub mod attach;
mod bank;
mod bloom;
pub mod clock;
mod clsact;
mod conntrack;
pub mod counters;
pub mod device;
pub mod error;
mod filters;
pub mod flows;
pub mod learn;
pub mod maps;
pub mod memory;
mod netlink;
pub mod netns;
pub mod object;
pub mod pins;
pub mod policy;
pub mod preflight;
pub mod probe;
pub mod reap;
mod refusal;
pub mod route;
pub mod rules;
mod sockets;
mod sys;
pub mod trace;

pub use error::{DataplaneError, Result};
pub use pins::Pins;
