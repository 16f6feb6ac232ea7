//! What the HTTP servers of `serve` share: where they listen, and how little a client can take from them.

mod address;
pub(crate) mod connection;
pub(crate) mod host;
pub(crate) mod router;
pub(crate) mod server;
pub mod tls;

pub use address::{Address, ListenError};
pub(crate) use address::{Listening, is_loopback};
