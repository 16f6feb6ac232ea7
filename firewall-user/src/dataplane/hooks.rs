//! Programs on devices: by XDP, TCX and clsact.

pub mod attach;
pub mod attached;
mod clsact;
pub mod detach;
mod filters;
pub mod hook;
mod links;
pub mod load;
pub mod located;
mod orphans;
pub mod programs;
mod refusal;
pub mod slow_path;
mod tcx;
mod xdp;
