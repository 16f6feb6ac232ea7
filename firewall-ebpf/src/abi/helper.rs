//! Formats of the lists that userspace hands to the helper programs through `BPF_PROG_TEST_RUN`, as
//! the data of an skb. Integers are in host byte order unless stated otherwise.

use super::interface::Direction;
use super::policy::TRAFFIC_MAX;

/// Bytes before the first entry of every list: a word whose meaning is the program's, and zeros. Bytes 12
/// and 13, which a test run reads as EtherType, must not say that the list is an IP packet.
pub const LIST_HEADER: u32 = 16;

/// Entries of a list for `sg_expire_v4` or `sg_expire_v6` that are read. The word is the number of the
/// [`Table`](super::flow::Table); an entry is a flow's [`last_seen`](super::flow::Flow::last_seen) and
/// its key.
pub const MAX_EXPIRED: u32 = 64;

/// Entries of a list for `sg_bloom_insert_v4` or `sg_bloom_insert_v6` that are read. The word is 0; an
/// entry is a key.
pub const MAX_BLOOM_KEYS: u32 = 64;

/// Entries of a list for `sg_probe_v4` or `sg_probe_v6` that are evaluated. The word is an
/// [`Active`](super::policy::Active) word. An entry is what [`pack_query`] returns (`u32`), room for
/// the result (`u32`: a rule as in [`Range::rule`](super::policy::Range::rule), or 0), and the outside
/// address in network byte order. Rules that have ended by the kernel's clock match nothing.
///
/// Lists for `sg_probe_filter_v4` and `_v6` have the same form; their word has a
/// [filter](super::policy::Active::with_filter), and the result is an entry of it. So have those for
/// `sg_probe_blocks_v4` and `_v6`: the word is a [`Blocking`](super::block::Blocking) word, the result the
/// value of the address in the trie, or 0, and the query is not read.
pub const MAX_PROBED: u32 = 128;

/// Bytes of an entry in a list for `sg_set_active`: the slot as a `u64`, and the
/// [`Active`](super::policy::Active) word; or [`SET_BLOCKING`] or [`SET_WATCH`] and their word. The word of the
/// list is 0.
pub const SET_ACTIVE_ENTRY: u32 = 16;
/// In the place of a slot: the entry is the [`Blocking`](super::block::Blocking) word.
pub const SET_BLOCKING: u32 = u32::MAX;
/// In the place of a slot, plus the slot: the entry is the interface's [`Watch`](super::record::Watch) word.
pub const SET_WATCH: u32 = 1 << 16;
/// Entries of such a list that are written.
pub const MAX_SET_ACTIVE: u32 = 128;

/// Direction and traffic in one word.
#[must_use]
#[inline(always)]
pub const fn pack_query(direction: Direction, traffic: u32) -> u32 {
    (direction as u32) << 31 | traffic
}

/// The two parts of [`pack_query`].
#[must_use]
#[inline(always)]
pub const fn unpack_query(query: u32) -> (Direction, u32) {
    let direction = if query >> 31 == 0 { Direction::Ingress } else { Direction::Egress };
    (direction, query & TRAFFIC_MAX)
}

/// Direction and number of a reason, which `sg_explain` prints: the mark of its skb.
#[must_use]
pub const fn pack_explained(direction: Direction, reason: u8) -> u32 {
    (direction as u32) << 8 | reason as u32
}

/// The two parts of [`pack_explained`], as numbers.
#[must_use]
#[inline(always)]
pub const fn unpack_explained(mark: u32) -> (u32, u32) {
    (mark >> 8, mark & 0xff)
}
