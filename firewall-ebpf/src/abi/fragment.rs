//! What is stored of a first fragment.

/// A first fragment that passed, stored under its packet's addresses and identification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FirstFragment {
    /// When it passed, in jiffies.
    pub seen: u64,
    /// Bytes of the packet's payload up to the end of this fragment: the first offset that a later
    /// fragment may have.
    pub end: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<FirstFragment>() == 16);
