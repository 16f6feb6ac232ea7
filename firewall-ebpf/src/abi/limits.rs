//! Sizes and bounds that the kernel program, the compiler and the documents share.

/// The version of this room: keys, values, numbers and their meaning in pinned maps. It names the
/// pin directory (`abi7`), so a program never opens maps of another version. Raise it with
/// every change of layout or meaning.
pub const ABI_VERSION: u32 = 7;

/// Interfaces attached at one time: the bound of a slot, and of every map that is indexed by slot.
pub const MAX_INTERFACES: u32 = 256;

/// VLAN tags (802.1Q or 802.1ad) before the IP header.
pub const MAX_VLAN_TAGS: u32 = 2;

/// IPv6 extension headers before the transport header. RFC 8200 names six kinds; eight leaves
/// room for repeats and still bounds the loop.
pub const MAX_EXTENSION_HEADERS: u32 = 8;

/// Classes in one policy, besides the two "any" classes: prefixes that allow the same traffic share one.
pub const MAX_CLASSES: u32 = 1 << 20;

/// Prefixes in one policy, of one family.
pub const MAX_PREFIXES: u32 = 1 << 22;

/// Pages of ranges in one policy: 4 GiB.
pub const MAX_PAGES: u32 = 1 << 20;

/// Entries of one class of a filter that end at different times: classes that a lookup follows.
pub const MAX_ENDS: u32 = 63;
