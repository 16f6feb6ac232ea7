//! Measuring the kernel program: subjects, the measuring itself, and the report.

pub mod command;
pub mod frames;
pub mod measure;
pub mod report;
pub mod scale;
pub mod subject;
