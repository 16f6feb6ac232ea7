//! What an operator scrapes, and the process that serves it.

mod address;
mod follow;
pub mod metrics;
mod scrapes;
pub mod serve;
pub mod server;
mod supervisor;

pub use address::{Address, ListenError};
