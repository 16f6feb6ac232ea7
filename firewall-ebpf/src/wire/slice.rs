//! A packet in ordinary memory.

use super::message::LinkMessage;
use super::packet::{Packet, Wire};
use super::{find_window_scale, is_link_message};

/// A frame in a slice.
#[derive(Clone, Copy, Debug)]
pub struct HostPacket<'a> {
    /// The whole frame.
    pub bytes: &'a [u8],
    /// How many of them are in the linear head; the others are as in page fragments.
    pub linear: usize,
    /// Whether the frame starts with an Ethernet header.
    pub has_ethernet: bool,
    /// Number of VLAN tags in the metadata, outside of the frame.
    pub metadata_tags: u32,
    /// See [`Packet::is_segmented`].
    pub segmented: bool,
}

impl<'a> HostPacket<'a> {
    /// A linear Ethernet frame.
    #[must_use]
    pub const fn ethernet(bytes: &'a [u8]) -> Self {
        Self { bytes, linear: bytes.len(), has_ethernet: true, metadata_tags: 0, segmented: false }
    }
}

fn read<T: Wire>(bytes: &[u8], offset: u32) -> Option<T> {
    let start = usize::try_from(offset).ok()?;
    let slice = bytes.get(start..start.checked_add(size_of::<T>())?)?;
    // SAFETY: the slice has the size of T, which is valid for any bytes.
    Some(unsafe { slice.as_ptr().cast::<T>().read_unaligned() })
}

impl Packet for HostPacket<'_> {
    fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn linear_len(&self) -> u32 {
        u32::try_from(self.linear.min(self.bytes.len())).unwrap_or(u32::MAX)
    }

    fn has_ethernet(&self) -> bool {
        self.has_ethernet
    }

    fn metadata_tags(&self) -> u32 {
        self.metadata_tags
    }

    fn forget(&self, number: u32) -> u32 {
        number
    }

    fn is_segmented(&self) -> bool {
        self.segmented
    }

    fn head<T: Wire>(&self, offset: u32) -> Option<T> {
        read(&self.bytes[..self.linear.min(self.bytes.len())], offset)
    }

    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        read(self.bytes, offset)
    }

    fn window_scale(&self, at: u32, end: u32) -> u8 {
        find_window_scale(self, at, end)
    }

    fn is_link_message(&self, ip: u32, at: u32, end: u32, message: LinkMessage) -> bool {
        is_link_message(self, ip, at, end, message)
    }
}
