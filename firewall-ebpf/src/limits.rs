//! Sizes and bounds that the kernel program, the compiler and the documents share.

/// The version of everything in this crate that lives in a pinned map: keys, values, reasons and
/// the meaning of their numbers. It names the pin directory, so programs and maps of different
/// versions never meet. Raise it with every change of layout.
pub const ABI_VERSION: u32 = 2;

/// Attachments at one time: the bound of a slot, and of everything indexed by slot.
pub const MAX_INTERFACES: u32 = 256;

/// VLAN tags (802.1Q or 802.1ad) before the packet.
pub const MAX_VLAN_TAGS: u32 = 2;

/// IPv6 extension headers before the transport header. RFC 8200 names six kinds; eight leaves
/// room for repeats without giving a sender an unbounded walk.
pub const MAX_EXTENSION_HEADERS: u32 = 8;

/// Steps of the search in a class's port ranges: enough for 2^21 ranges.
pub const MAX_SEARCH_STEPS: u32 = 21;

/// Port ranges in one policy; what [`MAX_SEARCH_STEPS`] can search, whatever their spread.
pub const MAX_RANGES: u32 = 1 << 20;

/// Classes in one policy: distinct prefixes of both families and the two "any source" classes.
pub const MAX_CLASSES: u32 = 1 << 20;

const _: () = assert!(MAX_RANGES < 1 << MAX_SEARCH_STEPS);
