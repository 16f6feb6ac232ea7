//! Records of packets: what the kernel program tells about those that were dropped, or that passed without a
//! flow, on an interface that is watched.
//!
//! A packet that is recorded is counted once, as [`Account::seen`], and then in exactly one place: as one of the
//! packets of a [`Record`] in the ring buffer, in a [`Cell`] whose record is still to be written, or as
//! [`Account::lost`]. So `seen` is the sum of the three at every time.
//!
//! Times are jiffies (`bpf_jiffies64`). Integers are in host byte order unless stated otherwise.

use super::interface::Direction;
use super::reason::{Verdict, verdict};

/// Bytes of a frame that a record has at most.
pub const FRAME: usize = 128;

/// Cells of a CPU, a power of two; those of CPU `n` start at `n * CELLS`.
pub const CELLS: u32 = 256;

/// What packets of one record have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct Key {
    /// Source address in network byte order, of IPv4 in the first four bytes.
    pub source: [u8; 16],
    /// Destination address, the same.
    pub destination: [u8; 16],
    /// Source and destination port in network byte order. Of ICMP and ICMPv6: 0, and the two bytes of type and
    /// code. Else 0.
    pub ports: [u16; 2],
    /// EtherType of a frame that is not IP; 0 of 802.3 with LLC, of IP, and of one that does not parse.
    pub ether_type: u16,
    /// IP protocol number of the transport header; 0 where there is none.
    pub protocol: u8,
    /// 4, 6, or 0 for a frame that is not IP or does not parse.
    pub family: u8,
    /// Index of the device in its network namespace.
    pub device: u32,
    /// The interface.
    pub slot: u16,
    /// Number of the [`Reason`](super::reason::Reason).
    pub reason: u8,
    /// [`EGRESS`], [`AUDIT`], [`FRAGMENT`], [`SELF_TEST`].
    pub flags: u8,
    /// [`Active::generation`](super::policy::Active::generation) of the policy that decided; for a reason that no
    /// policy is evaluated for, of the one that was active afterwards.
    pub generation: u32,
    /// The number of the rule that let the packet pass, or the index of the counter of the entry or block that
    /// dropped it; else 0.
    pub decided_by: u32,
}

/// [`Key::flags`]: the packet is egress.
pub const EGRESS: u8 = 1 << 0;
/// [`Key::flags`]: the packet passed although the reason is one to drop, because of audit mode.
pub const AUDIT: u8 = 1 << 1;
/// [`Key::flags`]: a fragment other than the first, so that its ports are not known.
pub const FRAGMENT: u8 = 1 << 2;
/// [`Key::flags`]: no packet, but a record that userspace has asked for; [`Key::decided_by`] is the CPU, and
/// [`Record::packets`] 0.
pub const SELF_TEST: u8 = 1 << 3;

/// Words of 64 bits in a [`Key`].
pub const HASH_WORDS: usize = size_of::<Key>() / 8;

impl Key {
    /// The direction of the packets.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        if self.flags & EGRESS != 0 { Direction::Egress } else { Direction::Ingress }
    }
}

/// Packets of one key within about a second, as they are in the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// When the first one was decided about.
    pub first: u64,
    /// When the last one was.
    pub last: u64,
    /// Their number.
    pub packets: u64,
    /// Bytes of their whole frames.
    pub bytes: u64,
    /// What they have in common.
    pub key: Key,
    /// Length of the first one's frame.
    pub frame_length: u32,
    /// Bytes of it in `frame`.
    pub captured: u16,
    /// All TCP flags that any of them had, of those that the decision uses
    /// ([`JUDGED_FLAGS`](crate::wire::tcp::JUDGED_FLAGS)).
    pub tcp_flags: u8,
    /// Zero.
    pub reserved: u8,
    /// The beginning of the first one's frame; zeros behind `captured`.
    pub frame: [u8; FRAME],
}

impl Record {
    /// A record of no packets.
    pub const EMPTY: Self = Self {
        first: 0,
        last: 0,
        packets: 0,
        bytes: 0,
        key: Key {
            source: [0; 16],
            destination: [0; 16],
            ports: [0; 2],
            ether_type: 0,
            protocol: 0,
            family: 0,
            device: 0,
            slot: 0,
            reason: 0,
            flags: 0,
            generation: 0,
            decided_by: 0,
        },
        frame_length: 0,
        captured: 0,
        tcp_flags: 0,
        reserved: 0,
        frame: [0; FRAME],
    };
}

/// Packets of one key that no record has yet, on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cell {
    /// What they have in common; all zeros if the cell was never used.
    pub key: Key,
    /// A [`Count`] of all that were ever added.
    pub added: u64,
    /// What of it has been taken out; the rest has no record yet.
    pub taken: u64,
    /// When the next packet has to look at more than its key: a second after the first one, or 0.
    pub due: u64,
    /// When the last one was decided about.
    pub last: u64,
    /// When the first one was.
    pub first: u64,
    /// Not 0 while a program takes packets out, or gives the cell another key.
    pub lock: u32,
    /// As in [`Record`].
    pub tcp_flags: u32,
    /// As in [`Record`].
    pub frame_length: u32,
    /// As in [`Record`].
    pub captured: u32,
    /// Zero.
    pub reserved: [u64; 2],
    /// As in [`Record`].
    pub frame: [u8; FRAME],
}

/// Packets and bytes in one word, so that one instruction adds or reads both. A difference of two is right, also where
/// the fields of the greater one have overflowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Count(pub u64);

impl Count {
    const BYTES: u32 = 38;
    /// The highest bits of both fields: half of what they can hold.
    const LARGE: u64 = 1 << 63 | 1 << (Self::BYTES - 1);

    /// One packet of a frame of this length.
    #[must_use]
    #[inline(always)]
    pub const fn one(bytes: u32) -> Self {
        Self(1 << Self::BYTES | bytes as u64)
    }

    /// Number of packets.
    #[must_use]
    #[inline(always)]
    pub const fn packets(self) -> u64 {
        self.0 >> Self::BYTES
    }

    /// Number of bytes.
    #[must_use]
    #[inline(always)]
    pub const fn bytes(self) -> u64 {
        self.0 & ((1 << Self::BYTES) - 1)
    }

    /// What was added since another count.
    #[must_use]
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.wrapping_sub(earlier.0))
    }

    /// Whether it has to be taken out now: 33 million packets, or 137 GB. Much more than comes in a second, and half
    /// of what there is room for.
    #[must_use]
    #[inline(always)]
    pub const fn is_large(self) -> bool {
        self.0 & Self::LARGE != 0
    }
}

/// What became of the packets of one interface and one kind (dropped, or passed without a flow) on one CPU. The first two only ever grow, also when the slot is
/// given to another interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Account {
    /// Packets that were to be recorded.
    pub seen: u64,
    /// Packets of no record: there was no token for it, or no room in the ring buffer.
    pub lost: u64,
    /// The token bucket: until when the records that were written use it up, in [`TICK`]s.
    pub used_until: u64,
    /// Zero.
    pub reserved: u64,
}

/// Accounts of an interface: of packets that are dropped, and of those that pass. Neither takes the tokens of the
/// other.
pub const ACCOUNTS_EACH: u32 = 2;

/// Index of the account of an interface's packets with a reason of this number.
#[must_use]
#[inline(always)]
pub const fn account_index(slot: u16, reason: u32) -> u32 {
    (slot as u32) * ACCOUNTS_EACH + matches!(verdict(reason), Verdict::Pass) as u32
}

/// Units of [`Account::used_until`] in a jiffy.
pub const TICK: u64 = 1 << 20;

/// Which packets of an interface are recorded, and until when: bits 0 to 7 [`Watch::DROPS`] and
/// [`Watch::PASSES`], from bit 8 on a time. Whoever reads the records renews it; nobody has to end it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Watch(pub u64);

impl Watch {
    /// Packets that are dropped, or would be without audit mode.
    pub const DROPS: u64 = 1 << 0;
    /// Packets that pass without a flow: `admitted` and `untracked`.
    pub const PASSES: u64 = 1 << 1;
    const DEADLINE: u32 = 8;

    /// Packets of these kinds until before a time.
    #[must_use]
    #[inline(always)]
    pub const fn new(kinds: u64, deadline: u64) -> Self {
        Self(deadline << Self::DEADLINE | kinds & ((1 << Self::DEADLINE) - 1))
    }

    /// Whether packets of one kind are recorded.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, kind: u64, now: u64) -> bool {
        self.0 & kind != 0 && now < self.0 >> Self::DEADLINE
    }
}

/// What decided about a packet, in one word: from the lowest bit the generation of the policy, 0 if none was
/// evaluated, and from bit 32 what [`Key::decided_by`] has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Note(pub u64);

impl Note {
    /// Packs the word.
    #[must_use]
    #[inline(always)]
    pub const fn new(generation: u32, decided_by: u32) -> Self {
        Self((decided_by as u64) << 32 | generation as u64)
    }

    /// The generation.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// See [`Key::decided_by`].
    #[must_use]
    #[inline(always)]
    pub const fn decided_by(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The word of the list for `sg_flush_records`: also write a record with [`SELF_TEST`].
pub const FLUSH_SELF_TEST: u64 = 1 << 0;
/// The same: write every cell, also those that there are no tokens for.
pub const FLUSH_ALL: u64 = 1 << 1;

const _: () = assert!(size_of::<Key>() == 56 && size_of::<Record>() == 96 + FRAME);
const _: () = assert!(size_of::<Cell>() == 128 + FRAME && CELLS.is_power_of_two());
