//! Writes into the tables of a bank.

use firewall_ebpf::abi::policy::{Class, Page};
use firewall_ebpf::abi::prefix::Prefix;

/// How much of a bank's tables is used, and their sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The lowest class that was never used.
    pub next_class: u32,
    /// How many classes the table has.
    pub classes: u32,
    /// The lowest word of the pages that was never written.
    pub next_word: u32,
    /// How many pages there are.
    pub pages: u32,
}

/// Writes into the tables of a bank, to be made in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Pages by number.
    pub pages: Vec<(u32, Page)>,
    /// Rows of both halves by class.
    pub rows: Vec<(u32, [Class; 2])>,
    /// To the IPv4 prefixes.
    pub v4: PrefixWrites<4>,
    /// To the IPv6 prefixes.
    pub v6: PrefixWrites<16>,
}

/// Writes into a trie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixWrites<const N: usize> {
    /// Classes in both halves.
    pub put: Vec<(Prefix<N>, [u32; 2])>,
    /// Prefixes to be removed.
    pub removed: Vec<Prefix<N>>,
}

impl Writes {
    /// How many entries are written or removed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pages.len()
            + self.rows.len()
            + self.v4.put.len()
            + self.v4.removed.len()
            + self.v6.put.len()
            + self.v6.removed.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A change of policy within a bank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Before the swap: packets still get the verdicts of the old policy.
    pub before: Writes,
    /// After the swap, when no packet reads the old half any more.
    pub after: Writes,
    /// What is used afterwards.
    pub room: Room,
}
