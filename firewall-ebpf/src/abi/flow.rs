//! Tracked connections: their keys and their record in the maps.

use super::address::{V4, V6};
use super::interface::Direction;
use super::state::State;

/// The 5-tuple of an IPv4 flow as its interface sees it. Oriented (inside, outside), so that both
/// directions of a flow give the same key. Addresses and ports in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct FlowKey4 {
    /// Address of the protected end.
    pub inside: V4,
    /// Address of the other end.
    pub outside: V4,
    /// Port of the protected end. Of an ICMP query: the identifier if this end sent the request, else type
    /// and code of the request, the type first. Without ports 0.
    pub inside_port: u16,
    /// Port of the other end; of an ICMP query as above.
    pub outside_port: u16,
    /// The interface's attachment number, host byte order.
    pub slot: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Of an ICMP query the end that sent the request ([`QUERY_FROM_INSIDE`],
    /// [`QUERY_FROM_OUTSIDE`]), because a request in the other direction belongs to another flow;
    /// else 0.
    pub query: u8,
}

/// The 5-tuple of an IPv6 flow; fields as in [`FlowKey4`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct FlowKey6 {
    /// Address of the protected end.
    pub inside: V6,
    /// Address of the other end.
    pub outside: V6,
    /// See [`FlowKey4::inside_port`].
    pub inside_port: u16,
    /// See [`FlowKey4::outside_port`].
    pub outside_port: u16,
    /// See [`FlowKey4::slot`].
    pub slot: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// See [`FlowKey4::query`].
    pub query: u8,
}

/// [`FlowKey4::query`]: the inside sent the request.
pub const QUERY_FROM_INSIDE: u8 = 1;
/// [`FlowKey4::query`]: the outside sent the request.
pub const QUERY_FROM_OUTSIDE: u8 = 2;

const _: () = assert!(size_of::<FlowKey4>() == 16 && size_of::<FlowKey6>() == 40);

/// Which table holds a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Tier {
    /// An LRU hash: flows of which one end may be spoofed. A flood evicts only these.
    #[cfg_attr(
        feature = "clap",
        value(help = "Not proven; a full table evicts flows that were not used recently")
    )]
    New = 0,
    /// Flows whose two ends have answered each other, in tables of their own; see [`Table`].
    #[cfg_attr(feature = "clap", value(help = "Both ends have answered each other"))]
    Proven = 1,
}

impl Tier {
    /// Both tiers.
    pub const ALL: [Self; 2] = [Self::New, Self::Proven];

    /// The word used in metric labels and in `flows list`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Proven => "proven",
        }
    }
}

/// A flow table of an interface; each exists once per address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// The new tier: an LRU hash.
    New = 0,
    /// Proven UDP: an LRU hash of its own. A sender that sees no reply can forge such a flow, so a full
    /// table evicts one that was not used recently, and never one of TCP.
    Udp = 1,
    /// Proven TCP: a hash that evicts nothing.
    Tcp = 2,
}

impl Table {
    /// Every table, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::New, Self::Udp, Self::Tcp];

    /// The table of the proven flows of a protocol. Flows of other protocols are never proven: nothing
    /// in their packets shows that the sender has seen a reply.
    #[must_use]
    #[inline(always)]
    pub const fn proven(protocol: u8) -> Option<Self> {
        match protocol {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// The word used in metric labels and in `status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// The tier that the table belongs to.
    #[must_use]
    pub const fn tier(self) -> Tier {
        match self {
            Self::New => Tier::New,
            Self::Udp | Self::Tcp => Tier::Proven,
        }
    }

    /// The table with this number.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::New),
            1 => Some(Self::Udp),
            2 => Some(Self::Tcp),
            _ => None,
        }
    }

    /// Index of an interface's table in the outer map of LRU tables, which has two for each interface;
    /// only of [`Self::New`] and [`Self::Udp`].
    #[must_use]
    #[inline(always)]
    pub const fn lru_index(self, slot: u16) -> u32 {
        (slot as u32) << 1 | (self as u32 & 1)
    }
}

/// [`Flow::flags`]: the first packet was egress.
pub const INITIATOR_EGRESS: u8 = 1 << 0;
/// The responder sent something other than a RST.
pub const REPLIED: u8 = 1 << 1;
/// Both ends have answered each other; the flow is in the proven tier, or stays in the new one while
/// the proven tier is full (nf_conntrack's ASSURED).
pub const PROVEN: u8 = 1 << 2;
/// TCP: the numbers of both ends are known, because an end has acknowledged what the other one sent. Until
/// then, in a flow that was picked up mid-stream or learned, a RST or FIN proves nothing.
pub const NUMBERS_KNOWN: u8 = 1 << 3;
/// The first FIN was egress.
pub const FIN_EGRESS: u8 = 1 << 4;
/// The outside has sent a segment without RST since the last RST, or, while the numbers are not known,
/// since the flow was picked up or learned.
pub const HEARD_INGRESS: u8 = 1 << 5;
/// The same of the inside.
pub const HEARD_EGRESS: u8 = 1 << 6;

/// [`Flow::pending`]: an ingress SYN was ignored; a SYN-ACK that acknowledges it
/// ([`Flow::ack_low`]) begins a new connection.
pub const SYN_INGRESS: u8 = 1 << 0;
/// The same for an egress SYN; at most one of the two is set.
pub const SYN_EGRESS: u8 = 1 << 1;
/// The numbers of an ingress segment could not belong to the connection. They are believed once the
/// other end acknowledges them.
pub const UNCONFIRMED_INGRESS: u8 = 1 << 2;
/// The same for an egress segment.
pub const UNCONFIRMED_EGRESS: u8 = 1 << 3;
/// That ingress segment was a FIN, which counts once the other end acknowledges exactly it.
pub const UNCONFIRMED_FIN_INGRESS: u8 = 1 << 4;
/// The same for an egress FIN.
pub const UNCONFIRMED_FIN_EGRESS: u8 = 1 << 5;

/// One tracked connection. The fast path uses only the first 64 bytes; where
/// the interface has a filter, also `filter`, and with revalidation `epoch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// When a packet of the flow last passed, in jiffies.
    pub last_seen: u64,
    /// Packets, by [`Direction`]. A lower bound: CPUs that count at once may lose one.
    pub packets: [u64; 2],
    /// Bytes of whole frames, by [`Direction`]. A lower bound, as `packets`.
    pub bytes: [u64; 2],
    /// TCP: the sequence number that follows what was sent, by [`Direction`]: the highest of the
    /// segments that can belong to the connection. Host byte order.
    pub next_seq: [u32; 2],
    /// TCP: the highest acknowledgement number of those segments, by [`Direction`]. Host byte order.
    pub last_ack: [u32; 2],
    /// A [`State`].
    pub state: u8,
    /// See [`INITIATOR_EGRESS`] and the constants after it.
    pub flags: u8,
    /// TCP, strict: the window scales of both SYNs (RFC 7323), or [`NO_SCALE`]: the low four bits for
    /// ingress, the high four for egress.
    pub scales: u8,
    /// TCP: see [`SYN_INGRESS`] and the constants after it.
    pub pending: u8,
    /// The number of the rule that admitted the flow; 0 if it was open before its interface was
    /// attached, or is that of exempt DHCP.
    pub rule: u32,
    /// By [`Direction`], a word of key and generation of the filter that allowed the packets of a direction
    /// (`verdict::filter::mark`); 0 where none did, or the entry that did ends.
    pub filter: [u32; 2],
    /// When the flow began, the low half of jiffies.
    pub created: u32,
    /// The generation of the policy that last evaluated the flow (when it was created and, with
    /// revalidation, after each change of policy); the complement of it if no rule allowed the flow,
    /// [`EPOCH_TIMED`] if one did that ends.
    pub epoch: u32,
    /// TCP: the lowest acknowledgement number that the next segment of a handshake may have: of the
    /// first SYN, then of the SYN-ACK, later of an ignored SYN ([`Flow::pending`]).
    pub ack_low: u32,
    /// TCP: the highest such number; with data on the SYN or after the SYN-ACK (TCP Fast Open,
    /// RFC 7413) there are several. Of an ignored SYN, from the lowest bit: 14 bits of the length of its
    /// data in bytes, 14 of its window in units of eight bytes, rounded up, 4 of its window scale; window
    /// and scale are 0 if it was seen in guard.
    pub ack_high: u32,
    /// TCP, while windows are tracked: the first sequence number beyond the receiver's window, by
    /// [`Direction`] of the data. In [`State::SynSent`] the lowest and the highest number that
    /// acknowledges the latest SYN. Else, until the numbers are known, the lowest and the highest
    /// number that acknowledges what the responder was seen to send; after that the number that
    /// follows each direction's unconfirmed segment ([`Flow::pending`]).
    pub limit: [u32; 2],
    /// TCP, strict: the largest window that each end announced, by [`Direction`] of the
    /// announcement, in bytes; 0 where it is not tracked. In [`State::SynSent`] that of the first SYN
    /// and, at the other direction, that of the latest.
    pub window: [u32; 2],
}

/// [`Flow::epoch`]: the rule that allowed the flow ends, so with revalidation each packet is evaluated. The
/// generation of one policy in four billion is the same; its flows pass until the policy changes again.
pub const EPOCH_TIMED: u32 = 0;

/// [`Flow::scales`]: the SYN had no window scale option.
pub const NO_SCALE: u8 = 15;

const _: () = assert!(size_of::<Flow>() == 104 && core::mem::offset_of!(Flow, filter) == 64);

impl Flow {
    /// The direction of the flow's first packet.
    #[must_use]
    pub const fn initiator(&self) -> Direction {
        if self.flags & INITIATOR_EGRESS != 0 { Direction::Egress } else { Direction::Ingress }
    }

    /// The flow's state; `None` if the record was not written by this version.
    #[must_use]
    pub const fn state(&self) -> Option<State> {
        State::from_number(self.state)
    }
}
