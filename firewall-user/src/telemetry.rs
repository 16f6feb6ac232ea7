//! What an operator scrapes.

pub mod metrics;
pub mod server;
