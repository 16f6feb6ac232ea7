//! The only place that touches the kernel: load, attach, pin, write maps, read counters and flows.

pub mod attach;
pub mod clock;
mod clsact;
pub mod counters;
pub mod device;
pub mod error;
mod filters;
pub mod flows;
pub mod maps;
pub mod netns;
pub mod object;
pub mod pins;
pub mod policy;
pub mod preflight;
pub mod reap;
mod refusal;
mod sys;
pub mod trace;

pub use error::{DataplaneError, Result};
pub use pins::Pins;
