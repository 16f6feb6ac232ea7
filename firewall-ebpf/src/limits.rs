//! Sizes and bounds that the kernel program, the compiler and the documents share.

/// The version of everything in this crate that lives in a pinned map: keys, values, reasons and
/// the meaning of their numbers. It names the pin directory, so programs and maps of different
/// versions never meet. Raise it with every change of layout.
pub const ABI_VERSION: u32 = 4;

/// Attachments at one time: the bound of a slot, and of everything indexed by slot.
pub const MAX_INTERFACES: u32 = 256;

/// VLAN tags (802.1Q or 802.1ad) before the packet.
pub const MAX_VLAN_TAGS: u32 = 2;

/// IPv6 extension headers before the transport header. RFC 8200 names six kinds; eight leaves
/// room for repeats without giving a sender an unbounded walk.
pub const MAX_EXTENSION_HEADERS: u32 = 8;

/// Classes in one policy, beside the two "any" classes: prefixes that allow the same share one.
pub const MAX_CLASSES: u32 = 1 << 20;

/// Prefixes in one policy, of one family.
pub const MAX_PREFIXES: u32 = 1 << 22;

/// Pages of port ranges in one policy: 4 GiB, far beyond what anyone has.
pub const MAX_PAGES: u32 = 1 << 20;
