//! Settings of an interface: direction, orientation, TCP checks, frames that are not IP.

use super::port::PortSecurity;
use super::reason::{Verdict, verdict};
use super::state::State;

/// The direction of a packet relative to the protected endpoint: a property of the packet, not of
/// the hook that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Direction {
    /// To the inside.
    #[cfg_attr(feature = "clap", value(help = "Toward the protected end"))]
    Ingress = 0,
    /// From the inside.
    #[cfg_attr(feature = "clap", value(help = "From the protected end"))]
    Egress = 1,
}

impl Direction {
    /// Both directions, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The word used in the CLI, in metric labels and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The other direction.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// Which end of the device is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Orientation {
    /// The device belongs to the protected host: what it receives is ingress.
    Host = 0,
    /// The device is the host's end of a VM's tap or a container's veth: what it receives is
    /// egress, because the guest sent it.
    Guest = 1,
}

impl Orientation {
    /// The word used in the CLI and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }

    /// The direction of a packet that the device receives.
    #[must_use]
    pub const fn received(self) -> Direction {
        match self {
            Self::Host => Direction::Ingress,
            Self::Guest => Direction::Egress,
        }
    }

    /// The direction of a packet that the device transmits.
    #[must_use]
    pub const fn transmitted(self) -> Direction {
        self.received().opposite()
    }
}

/// How closely TCP is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum TcpChecks {
    /// What could prove or end a connection is checked: a SYN-ACK must acknowledge the SYN, a RST must
    /// have the expected sequence number, the numbers of a FIN must be near those of the connection.
    /// Any other segment that does not fit passes and changes nothing; the endpoints discard it.
    #[default]
    #[cfg_attr(feature = "clap", value(help = "Check the numbers of handshake, FIN and RST"))]
    Guard = 0,
    /// Sequence and acknowledgement numbers must be in the window of their connection, which must
    /// have been seen from its first SYN. A segment that does not fit is dropped.
    #[cfg_attr(feature = "clap", value(help = "Check every segment against the window as well"))]
    Strict = 1,
}

impl TcpChecks {
    /// Both choices.
    pub const ALL: [Self; 2] = [Self::Guard, Self::Strict];

    /// The word used in the CLI and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Strict => "strict",
        }
    }
}

/// Whether packets of established flows take the fast path: it reads Ethernet frames only, and does
/// not track TCP windows.
#[must_use]
pub const fn has_fast_path(has_ethernet: bool, checks: TcpChecks) -> bool {
    has_ethernet && matches!(checks, TcpChecks::Guard)
}

/// Seconds for which a first fragment stays valid: as long as a Linux host keeps an incomplete
/// packet (net.ipv4.ipfrag_time; net.ipv6.ip6frag_time is twice as long).
pub const FRAGMENT_TIMEOUT: u32 = 30;

/// Seconds after which a UDP flow can be proven. nf_conntrack waits as long before it sets ASSURED (Linux
/// commit d535c8a69c19), so that one question and its answers do not count.
pub const UDP_STREAM_AGE: u32 = 2;

/// Which frames that are not IP pass, besides ARP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum NonIp {
    /// Link-local control frames.
    #[default]
    #[cfg_attr(feature = "clap", value(help = "LLDP, LACP, EAPOL, STP and other 802.2 LLC"))]
    Control = 0,
    /// Every frame. IP inside PPPoE or MPLS then passes without a rule.
    All = 1,
    /// Nothing.
    None = 2,
}

impl NonIp {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Control, Self::All, Self::None];

    /// The word used in the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::All => "all",
            Self::None => "none",
        }
    }

    /// The choice with this number, as overridden at load; unknown numbers are the strictest.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Control,
            1 => Self::All,
            _ => Self::None,
        }
    }
}

/// EtherTypes that an interface can allow by number.
pub const MAX_ETHER_TYPES: usize = 8;

/// The EtherTypes whose frames pass, in host byte order; the rest are zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct EtherTypes(pub [u16; MAX_ETHER_TYPES]);

impl EtherTypes {
    /// Whether this EtherType, which is not 0, is one of them.
    #[must_use]
    #[inline(always)]
    pub fn contains(&self, ether_type: u16) -> bool {
        // Without branches, each of which the verifier would follow to the end of the program.
        let is_equal = |one: &u16| u32::from(one ^ ether_type).wrapping_sub(1) >> 31;
        self.0.iter().map(is_equal).fold(0, |found, one| found | one) != 0
    }
}

/// Timeouts in [`Settings`]: a power of two, so that an index can be masked into bounds.
pub const TIMEOUT_SPACE: usize = 16;
const _: () = assert!(State::ALL.len() <= TIMEOUT_SPACE);

/// What the slow path, which all interfaces share, reads about one interface. Userspace writes a record
/// before a program that refers to it is attached, and never changes it while one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Idle timeouts in jiffies, by [`State`].
    pub timeouts: [u64; TIMEOUT_SPACE],
    /// For how long a first fragment stays valid, in jiffies.
    pub fragment_timeout: u64,
    /// For how long a UDP flow is not proven, in jiffies.
    pub udp_stream_age: u64,
    /// A [`NonIp`].
    pub non_ip: u8,
    /// Whether TCP connections are picked up mid-stream: 0 or 1.
    pub tcp_loose: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Proven TCP flows that one source can have; 0: as many as fit.
    pub max_per_source: u32,
    /// Frames that pass beside those of `non_ip`.
    pub ether_types: EtherTypes,
    /// What a guest may send as its own; the default for a host.
    pub port: PortSecurity,
}

const _: () = assert!(size_of::<Settings>() == 168 + size_of::<PortSecurity>());

/// Records of [`Settings`] that an interface has. Programs that are attached refer to one; the other is
/// for the programs that replace them.
pub const SETTINGS_EACH: u32 = 2;

/// Index of a record of an interface's settings; `half` is 0 or 1.
#[must_use]
pub const fn settings_index(slot: u16, half: u8) -> u16 {
    slot * 2 + (half & 1) as u16
}

/// Variants of the slow path. The direction of its packets and the arguments of [`shared_slow_path`] are
/// constants of each: with all as settings the verifier of Linux 6.1 would process more than a million
/// instructions.
pub const SLOW_PATHS: u32 = 16;

/// Index of the slow path for packets of a direction.
#[must_use]
#[inline(always)]
pub const fn slow_path_index(base: u32, direction: Direction) -> u32 {
    base + direction as u32
}

/// [`slow_path_index`]'s base of the slow path that interfaces with these settings share.
#[must_use]
pub const fn shared_slow_path(checks: TcpChecks, has_ethernet: bool, revalidates: bool) -> u32 {
    (checks as u32) << 1 | (!has_ethernet as u32) << 2 | (revalidates as u32) << 3
}

/// Index of the program that records packets of a direction. It follows the slow path by a tail call: together the
/// two need more than the 512 bytes of stack that a program has.
#[must_use]
#[inline(always)]
pub const fn record_index(has_ethernet: bool, direction: Direction) -> u32 {
    SLOW_PATHS + 2 * !has_ethernet as u32 + direction as u32
}

/// Programs of the slow path, and those that record packets.
pub const SLOW_PATH_PROGRAMS: u32 = SLOW_PATHS + 4;

/// What one program hands to the next, in one word: bits 0 to 14 the index of the interface's [`Settings`],
/// bit 15 whether the packet has passed the blocks of the host; once it is decided, bits 16 to 23 the reason, and
/// bit 24 whether audit mode lets the packet pass; bits 32 to 63 the device's index, by which the next program
/// knows that the word is for its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call(pub u64);

impl Call {
    const SETTINGS: u64 = 0x7fff;
    const PASSED_BLOCKS: u32 = 15;
    const AUDIT: u32 = 24;

    /// Packs the word.
    #[must_use]
    #[inline(always)]
    pub const fn new(settings: u16, device: u32) -> Self {
        Self(settings as u64 & Self::SETTINGS | (device as u64) << 32)
    }

    /// The word with, or without, the note that the packet has passed the blocks of the host.
    #[must_use]
    #[inline(always)]
    pub const fn with_passed_blocks(self, passed: bool) -> Self {
        // Computed without a branch, as where it is read.
        Self(self.0 & !(1 << Self::PASSED_BLOCKS) | (passed as u64) << Self::PASSED_BLOCKS)
    }

    /// Whether the packet has passed the blocks of the host.
    #[must_use]
    #[inline(always)]
    pub const fn has_passed_blocks(self) -> bool {
        self.0 >> Self::PASSED_BLOCKS & 1 != 0
    }

    /// Index of the settings.
    #[must_use]
    #[inline(always)]
    pub const fn settings(self) -> u32 {
        (self.0 & Self::SETTINGS) as u32
    }

    /// The word with what was decided: the number of a reason, and whether audit mode lets the packet pass. It
    /// must be from [`Self::new`].
    #[must_use]
    #[inline(always)]
    pub const fn with_decision(self, reason: u32, audit: bool) -> Self {
        Self(self.0 | (reason as u64 & 0xff) << 16 | (audit as u64) << Self::AUDIT)
    }

    /// The number of the reason.
    #[must_use]
    #[inline(always)]
    pub const fn reason(self) -> u32 {
        (self.0 >> 16) as u32 & 0xff
    }

    /// Whether audit mode lets the packet pass.
    #[must_use]
    #[inline(always)]
    pub const fn is_audit(self) -> bool {
        self.0 >> Self::AUDIT & 1 != 0
    }

    /// Whether a packet passes about which that was decided.
    #[must_use]
    #[inline(always)]
    pub const fn passes(self) -> bool {
        self.is_audit() || matches!(verdict(self.reason()), Verdict::Pass)
    }

    /// Index of the device.
    #[must_use]
    #[inline(always)]
    pub const fn device(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
