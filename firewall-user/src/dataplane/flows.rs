//! The flow tables: their entries, what expires, and what is learned when an interface is attached.

mod bloom;
mod conntrack;
pub mod expire;
pub mod foreign;
pub(in crate::dataplane) mod key;
pub mod learn;
pub mod list;
mod resize;
mod sockets;
mod sources;
pub mod survey;
