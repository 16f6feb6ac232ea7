//! The pinned maps: policies in their banks, tables of flows, counters, clock.

pub mod active;
mod bank;
pub mod blocks;
pub mod clock;
pub mod counters;
pub(in crate::dataplane) mod create;
pub(in crate::dataplane) mod device;
pub mod filters;
pub mod interface;
pub mod maps;
pub mod memory;
pub mod owner;
pub mod policy;
mod probe;
mod rules;
pub mod unstored;
