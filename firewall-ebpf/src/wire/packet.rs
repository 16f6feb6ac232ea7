//! Access to a packet's bytes, the same for XDP, for an skb and for a slice on the host.

use super::message::LinkMessage;

/// Plain bytes as they are in a packet: integers keep network byte order until [`u16::from_be`].
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
unsafe impl<const N: usize> Wire for [u16; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Wire for [u32; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Wire for [u64; N] {}

/// A packet as a hook receives it.
pub trait Packet {
    /// Length of the whole frame in bytes, including parts outside of the linear head.
    fn length(&self) -> u32;

    /// Length of the linear head in bytes: [`Self::length`], unless the frame is in several
    /// buffers. An implementation may return that length where it costs no more.
    fn linear_len(&self) -> u32;

    /// Whether the frame starts with an Ethernet header (else with its IP header: tun, WireGuard).
    fn has_ethernet(&self) -> bool;

    /// Number of VLAN tags in the metadata of the skb, outside of the frame.
    fn metadata_tags(&self) -> u32;

    /// Whether the frame holds several segments that are cut apart later (GSO): never at XDP, which
    /// sees frames as they are on the wire.
    fn is_segmented(&self) -> bool;

    /// The number itself. In the kernel a BPF function, after which the verifier knows nothing about it, and
    /// continues only once where several ways lead to another number.
    fn forget(&self, number: u32) -> u32;

    /// Bytes of the linear head at an offset that is a constant after inlining: one bounds check
    /// and direct loads. `None` if the head ends before.
    fn head<T: Wire>(&self, offset: u32) -> Option<T>;

    /// Bytes at any offset of the frame. Costs a helper call in the kernel.
    fn load<T: Wire>(&self, offset: u32) -> Option<T>;

    /// [`find_window_scale`](super::find_window_scale) on this packet; a BPF function of its own in
    /// the kernel.
    fn window_scale(&self, at: u32, end: u32) -> u8;

    /// [`is_link_message`](super::is_link_message) on this packet; a BPF function of its own in the
    /// kernel.
    fn is_link_message(&self, ip: u32, at: u32, end: u32, message: LinkMessage) -> bool;
}
