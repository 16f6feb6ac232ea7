//! Access to a packet's bytes, the same for XDP, for an skb and for a slice on the host.

/// Plain bytes as they lie in a packet: integers keep network byte order until [`u16::from_be`].
///
/// # Safety
/// Any bit pattern is a value of the type, and the type has no padding.
pub unsafe trait Wire: Copy {}

// SAFETY: integers and arrays of them have no padding and no invalid values.
unsafe impl Wire for u16 {}
// SAFETY: as above.
unsafe impl Wire for u32 {}
// SAFETY: as above.
unsafe impl<const N: usize> Wire for [u64; N] {}

/// A packet as a hook sees it.
pub trait Packet {
    /// Length of the whole frame in bytes, parts outside the linear head included.
    fn length(&self) -> u32;

    /// Length of the linear head in bytes: [`Self::length`], unless the frame lies in several
    /// parts. Where the whole length costs nothing either, it is that.
    fn near_length(&self) -> u32;

    /// Whether the frame starts with an Ethernet header (else with its IP header: tun, WireGuard).
    fn has_ethernet(&self) -> bool;

    /// VLAN tags that the driver or the kernel keeps beside the frame.
    fn tags_beside(&self) -> u32;

    /// Bytes at an offset that is a constant after inlining, from the linear head: one bounds
    /// check and direct loads. `None` if the head ends before.
    fn head<T: Wire>(&self, offset: u32) -> Option<T>;

    /// Bytes at any offset, wherever they lie. Costs a helper call in the kernel.
    fn load<T: Wire>(&self, offset: u32) -> Option<T>;
}

/// How a parser reaches the bytes: [`Head`] for the common frame, [`Anywhere`] for every other.
pub(crate) trait Reader: Copy {
    /// Whether only constant offsets may be read.
    const FIXED: bool;

    /// Bytes that may be read.
    fn length(self) -> u32;

    fn read<T: Wire>(self, offset: u32) -> Option<T>;
}

pub(crate) struct Head<'a, P>(pub(crate) &'a P);
pub(crate) struct Anywhere<'a, P>(pub(crate) &'a P);

impl<P> Copy for Head<'_, P> {}
impl<P> Clone for Head<'_, P> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Anywhere<'_, P> {}
impl<P> Clone for Anywhere<'_, P> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Packet> Reader for Head<'_, P> {
    const FIXED: bool = true;

    #[inline(always)]
    fn length(self) -> u32 {
        self.0.near_length()
    }

    #[inline(always)]
    fn read<T: Wire>(self, offset: u32) -> Option<T> {
        self.0.head(offset)
    }
}

impl<P: Packet> Reader for Anywhere<'_, P> {
    const FIXED: bool = false;

    #[inline(always)]
    fn length(self) -> u32 {
        self.0.length()
    }

    #[inline(always)]
    fn read<T: Wire>(self, offset: u32) -> Option<T> {
        self.0.load(offset)
    }
}
