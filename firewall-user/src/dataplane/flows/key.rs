//! The key of a flow of either family.

use firewall_ebpf::abi::flow::{FlowKey4, FlowKey6};

use crate::dataplane::sys;

/// Which flow of all interfaces: its key in the tables. The next flow of the same tuple has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(pub(super) AnyKey);

impl FlowId {
    /// The key as it is stored in the tables: of one family always of the same length.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::dataplane) enum AnyKey {
    V4(FlowKey4),
    V6(FlowKey6),
}

impl AnyKey {
    pub(in crate::dataplane) const fn is_v6(&self) -> bool {
        matches!(self, Self::V6(_))
    }

    /// The key as it is stored in the tables.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(key) => sys::bytes(key),
            Self::V6(key) => sys::bytes(key),
        }
    }
}
