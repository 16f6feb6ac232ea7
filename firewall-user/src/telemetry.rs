//! What an operator scrapes, and the process that serves it.

mod follow;
pub mod metrics;
mod scrapes;
pub mod records;
pub mod serve;
pub mod server;
mod supervisor;
