//! Measuring the kernel program: subjects, the measuring itself, and the report.

pub mod command;
pub mod frames;
pub mod interfaces;
pub mod measure;
pub mod memory;
pub mod report;
pub mod scale;
pub mod subject;
