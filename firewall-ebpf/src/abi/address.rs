//! Addresses as map keys hold them.

/// An IPv4 address: the four octets in network byte order, loaded as one word.
pub type V4 = u32;

/// An IPv6 address: the sixteen octets in network byte order, loaded as two words.
pub type V6 = [u64; 2];
