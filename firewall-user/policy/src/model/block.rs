//! Blocks: addresses whose packets are dropped before everything else is decided.

use super::{End, InterfaceId, Peer};

/// A blocked network or prefix list. Packets from it and to it are dropped, before any ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The block's number in the kernel's counters: unique in the store among rules, entries of ACLs and
    /// blocks, never reused; 0 until it is stored.
    pub number: u32,
    /// The outside networks; never a group.
    pub target: Peer,
    /// The only interface that it applies to; `None`: all.
    pub interface: Option<InterfaceId>,
    /// Free text, may be empty.
    pub reason: String,
    /// When it ends by itself.
    pub end: Option<End>,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
}
