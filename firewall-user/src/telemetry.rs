//! What an operator scrapes, and the process that serves it.

pub mod collected;
mod follow;
pub mod hits;
pub mod metrics;
pub mod records;
mod scrapes;
pub mod serve;
pub mod server;
mod supervisor;
