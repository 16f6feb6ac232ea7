//! Access to a packet's bytes, the same for XDP, for an skb and for a slice on the host.

use crate::parse;

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
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Wire for [u32; N] {}
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

    /// [`parse::scale_within`], perhaps out of line.
    #[inline(always)]
    fn window_scale(&self, at: u32, end: u32) -> u8
    where
        Self: Sized,
    {
        parse::scale_within(self, at, end)
    }
}
