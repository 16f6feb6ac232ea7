//! Benchmarks of the kernel program, of large policies and of commands.

pub mod api;
pub mod command;
pub mod deny;
pub mod frames;
pub mod interfaces;
pub mod list;
pub mod measure;
pub mod memory;
pub mod packets;
pub mod records;
pub mod report;
pub mod rows;
pub mod scale;
mod subject;
