//! Tracked connections: their keys, their record, and access to a record that lives in a map.

use core::marker::PhantomData;
use core::ptr;

use crate::bloom::{self, Bit};
use crate::interface::{Direction, State};
use crate::packet::{Packet, Wire};
use crate::parse::{self, Kind, Segment, V4, V6};

/// The 5-tuple of an IPv4 flow as its interface sees it. Oriented (inside, outside), so that both
/// directions of a flow give the same key. Addresses and ports in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct FlowKey4 {
    /// Address of the protected end.
    pub inside: V4,
    /// Address of the other end.
    pub outside: V4,
    /// Port of the protected end; of an ICMP query its identifier; else 0.
    pub inside_port: u16,
    /// Port of the other end; of an ICMP query its identifier; else 0.
    pub outside_port: u16,
    /// The interface's attachment number, host byte order.
    pub slot: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Of an ICMP query who asked ([`QUERY_FROM_INSIDE`], [`QUERY_FROM_OUTSIDE`]), because a
    /// request the other way belongs to another flow; else 0.
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

/// An address family: how its addresses make a flow key.
pub trait Address: Copy + PartialEq {
    /// The flow key of the family.
    type Key: Copy;

    /// Whether this is IPv4.
    const IS_V4: bool;
    /// The class of an address that no prefix covers.
    const ANY: u32;
    /// The longest chain of nested prefixes: one of each length, and "any".
    const MAX_DEPTH: u32;

    /// Reads the packet that an ICMP error quotes; see [`parse::quoted_v4`].
    fn quoted<P: Packet>(packet: &P, error: &Segment<Self>, quote: &mut Segment<Self>) -> bool;

    /// Builds a key. `tail` is the last eight bytes, ports first, as one word.
    fn key(inside: Self, outside: Self, tail: u64) -> Self::Key;

    /// The key's place in the filter of flows ([`bloom`]).
    fn bit(key: &Self::Key) -> Bit;
}

// A key is made of whole words, because the lookup hashes and compares it in words: what was
// stored in halves and bytes could not be forwarded to those loads, which stalls for longer than
// the hash itself takes. The layout of the words is that of a little-endian machine.
const _: () = assert!(cfg!(target_endian = "little"));

impl Address for V4 {
    type Key = FlowKey4;
    const IS_V4: bool = true;
    const ANY: u32 = crate::policy::ANY_V4;
    const MAX_DEPTH: u32 = 33;

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, error: &Segment<Self>, quote: &mut Segment<Self>) -> bool {
        parse::quoted_v4(packet, error, quote)
    }

    #[inline(always)]
    fn key(inside: Self, outside: Self, tail: u64) -> FlowKey4 {
        let words = [(outside as u64) << 32 | inside as u64, tail];
        // SAFETY: same size and alignment, integers without padding on both sides.
        unsafe { core::mem::transmute::<[u64; 2], FlowKey4>(words) }
    }

    #[inline(always)]
    fn bit(key: &FlowKey4) -> Bit {
        // SAFETY: as above.
        bloom::bit(unsafe { core::mem::transmute::<FlowKey4, [u64; 2]>(*key) })
    }
}

impl Address for V6 {
    type Key = FlowKey6;
    const IS_V4: bool = false;
    const ANY: u32 = crate::policy::ANY_V6;
    const MAX_DEPTH: u32 = 129;

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, error: &Segment<Self>, quote: &mut Segment<Self>) -> bool {
        parse::quoted_v6(packet, error, quote)
    }

    #[inline(always)]
    fn key(inside: Self, outside: Self, tail: u64) -> FlowKey6 {
        let words = [inside[0], inside[1], outside[0], outside[1], tail];
        // SAFETY: as above.
        unsafe { core::mem::transmute::<[u64; 5], FlowKey6>(words) }
    }

    #[inline(always)]
    fn bit(key: &FlowKey6) -> Bit {
        // SAFETY: as above.
        bloom::bit(unsafe { core::mem::transmute::<FlowKey6, [u64; 5]>(*key) })
    }
}

/// The key of the flow that a segment belongs to, if it belongs to one.
#[inline(always)]
pub fn key<A: Address>(segment: &Segment<A>, direction: Direction, slot: u16) -> A::Key {
    let query = match (segment.kind, direction) {
        (Kind::Request, Direction::Egress) | (Kind::Reply, Direction::Ingress) => QUERY_FROM_INSIDE,
        (Kind::Request, Direction::Ingress) | (Kind::Reply, Direction::Egress) => {
            QUERY_FROM_OUTSIDE
        }
        _ => 0,
    };
    // Inside first.
    let (inside, outside, ports) = match direction {
        Direction::Ingress => (segment.dst, segment.src, segment.ports.rotate_left(16)),
        Direction::Egress => (segment.src, segment.dst, segment.ports),
    };
    let tail =
        ports as u64 | (slot as u64) << 32 | (segment.protocol as u64) << 48 | (query as u64) << 56;
    A::key(inside, outside, tail)
}

/// Where the entries begin in a list for `sg_reap_v4` or `sg_reap_v6`, behind the number of their
/// [`Tier`] as a `u64`. An entry is a flow's [`Flow::last_seen`] and its key.
pub const REAP_LIST: u32 = 8;
/// The entries of one list that are looked at.
pub const MAX_REAPED: u32 = 64;
/// The keys of one list for `sg_note_v4` or `sg_note_v6` that are looked at.
pub const MAX_NOTED: u32 = 64;

// SAFETY: integers only, naturally aligned, without padding: the sizes are asserted above.
unsafe impl Wire for FlowKey4 {}
// SAFETY: as above.
unsafe impl Wire for FlowKey6 {}

/// Whether more than `timeout` has passed since. Another CPU may have read the clock later and
/// written first: then it has not.
#[must_use]
#[inline(always)]
pub const fn has_passed(since: u64, now: u64, timeout: u64) -> bool {
    let idle = now.wrapping_sub(since);
    // Half of all jiffies: the clock went backwards, in the sense above.
    idle > timeout && idle < 1 << 63
}

/// Which table holds a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Tier {
    /// An LRU: flows of which one end may be an invention. A flood evicts its own kind.
    #[cfg_attr(feature = "clap", value(help = "Not proven; a full table evicts the longest idle"))]
    New = 0,
    /// A plain hash: both ends have shown that they exist. Nothing evicts them.
    #[cfg_attr(feature = "clap", value(help = "Both ends have sent; a full table evicts none"))]
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

/// [`Flow::flags`]: the first packet was egress.
pub const INITIATOR_EGRESS: u8 = 1 << 0;
/// The responder sent something that is not a refusal.
pub const REPLIED: u8 = 1 << 1;
/// Both ends have shown that they exist; the flow is in, or is waiting for room in, the proven
/// tier.
pub const PROVEN: u8 = 1 << 2;
/// TCP whose handshake was not seen, so that its windows are not known: nothing is held to them.
pub const PICKED_UP: u8 = 1 << 3;
/// The first FIN was egress.
pub const FIN_EGRESS: u8 = 1 << 4;
/// Since the last RST the outside sent a segment without RST.
pub const HEARD_INGRESS: u8 = 1 << 5;
/// Since the last RST the inside sent a segment without RST.
pub const HEARD_EGRESS: u8 = 1 << 6;

/// One tracked connection. What an established packet touches is in the first 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// When a packet last belonged to the flow, in jiffies.
    pub last_seen: u64,
    /// Packets, by [`Direction`]. A lower bound: see [`FlowRef::count`].
    pub packets: [u64; 2],
    /// Bytes of whole frames, by [`Direction`]. A lower bound: see [`FlowRef::count`].
    pub bytes: [u64; 2],
    /// TCP: the sequence number behind what was sent, by [`Direction`]: of the latest segment in
    /// [`Guard`](crate::interface::TcpChecks::Guard), the highest in
    /// [`Strict`](crate::interface::TcpChecks::Strict). Host byte order.
    pub end: [u32; 2],
    /// TCP: the latest acknowledgement number sent, by [`Direction`]; 0 until there is one. Host
    /// byte order.
    pub acked: [u32; 2],
    /// A [`State`].
    pub state: u8,
    /// See [`INITIATOR_EGRESS`] and its neighbours.
    pub flags: u8,
    /// TCP, strict: the window scale that each end asked for, by [`Direction`] (RFC 7323), or
    /// [`NO_SCALE`].
    pub scale: [u8; 2],
    /// The number of the rule that admitted the flow; 0 if it was open before its interface was
    /// attached.
    pub rule: u32,
    /// When the flow began, the low half of jiffies.
    pub created: u32,
    /// The generation of the policy that let the flow in or, with revalidation, was asked about it
    /// last; the complement of that if it refused.
    pub epoch: u32,
    /// TCP handshake: the lowest acknowledgement number that proves the other end.
    pub ack_low: u32,
    /// TCP handshake: the highest such number; with data on the SYN or behind the SYN-ACK (TCP
    /// Fast Open, RFC 7413) there are several.
    pub ack_high: u32,
    /// TCP, strict: the first sequence number that the other end has no room for, by
    /// [`Direction`] of the data.
    pub limit: [u32; 2],
    /// TCP, strict: the largest window that each end announced, by [`Direction`] of the
    /// announcement, in bytes; 0 until there is one.
    pub window: [u32; 2],
}

/// [`Flow::scale`]: the SYN had no window scale option.
pub const NO_SCALE: u8 = u8::MAX;

const _: () = assert!(size_of::<Flow>() == 96 && core::mem::offset_of!(Flow, created) == 64);

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

/// A flow's record in a table, while other CPUs may use it too.
///
/// Fields are read and written one by one, volatile and unlocked (a spin lock costs as much as
/// the lookup). Who races, and why it heals:
///
/// * Two packets of one flow on two CPUs. Each field is one word, so a reader sees the old or the
///   new value. A lost state change is made again by the next segment of the same kind (a
///   retransmitted FIN, the next ACK), and until then the flow has a longer idle timeout, never a
///   wider permission: a flow's existence passes packets, its state only times it out.
/// * The same two packets and TCP's numbers. In guard the later one's stand, which only a RST asks;
///   the next segment puts them right. In strict a lost edge of the window may drop what is just
///   beyond it, which its sender repeats after the other end's next acknowledgement.
/// * Two packets with revalidation, while a policy follows another. What was found is one word, the
///   epoch; if the packet that asked the older policy writes last, the next one asks again.
/// * A packet that holds a record while it is removed and reused for another flow, which the
///   kernel's preallocated tables do at once. It may refresh, count or advance a stranger's flow
///   by one packet. The stranger's own packets restore time and state; its key, and with it what
///   it permits, is never written here.
/// * A packet that holds the record in the new tier while another copies it to the proven tier.
///   The copy misses that packet's count and time; the next packet brings both.
#[derive(Clone, Copy)]
pub struct FlowRef<'a> {
    record: *mut Flow,
    table: PhantomData<&'a Flow>,
}

macro_rules! access {
    ($($get:ident, $set:ident, $field:ident: $type:ty;)*) => {
        $(
            #[doc = concat!("Reads [`Flow::", stringify!($field), "`].")]
            #[must_use]
            #[inline(always)]
            pub fn $get(&self) -> $type {
                // SAFETY: `new` requires a live record; the field is aligned and always valid.
                unsafe { ptr::addr_of!((*self.record).$field).read_volatile() }
            }

            #[doc = concat!("Writes [`Flow::", stringify!($field), "`].")]
            #[inline(always)]
            pub fn $set(&self, value: $type) {
                // SAFETY: as above; concurrent writers are discussed at `FlowRef`.
                unsafe { ptr::addr_of_mut!((*self.record).$field).write_volatile(value) }
            }
        )*
    };
}

macro_rules! access_by_direction {
    ($($get:ident, $set:ident, $field:ident: $type:ty;)*) => {
        $(
            #[doc = concat!("Reads [`Flow::", stringify!($field), "`] of a direction.")]
            #[must_use]
            #[inline(always)]
            pub fn $get(&self, direction: Direction) -> $type {
                // SAFETY: as in `access!`; the index is 0 or 1.
                unsafe {
                    let field = ptr::addr_of!((*self.record).$field).cast::<$type>();
                    field.add(direction as usize).read_volatile()
                }
            }

            #[doc = concat!("Writes [`Flow::", stringify!($field), "`] of a direction.")]
            #[inline(always)]
            pub fn $set(&self, direction: Direction, value: $type) {
                // SAFETY: as in `access!`; the index is 0 or 1.
                unsafe {
                    let field = ptr::addr_of_mut!((*self.record).$field).cast::<$type>();
                    field.add(direction as usize).write_volatile(value);
                }
            }
        )*
    };
}

impl<'a> FlowRef<'a> {
    /// Wraps a record of a table.
    ///
    /// # Safety
    /// `record` points to an initialised [`Flow`] that stays readable and writable for `'a`, and
    /// no reference to it exists meanwhile.
    #[must_use]
    #[inline(always)]
    pub const unsafe fn new(record: *mut Flow) -> Self {
        Self { record, table: PhantomData }
    }

    access! {
        last_seen, set_last_seen, last_seen: u64;
        rule, set_rule, rule: u32;
        epoch, set_epoch, epoch: u32;
        ack_low, set_ack_low, ack_low: u32;
        ack_high, set_ack_high, ack_high: u32;
        state, set_state, state: u8;
        flags, set_flags, flags: u8;
    }

    access_by_direction! {
        end, set_end, end: u32;
        acked, set_acked, acked: u32;
        limit, set_limit, limit: u32;
        window, set_window, window: u32;
        scale, set_scale, scale: u8;
    }

    /// Adds one packet. Not atomic (two atomic additions cost a fifth of the whole path): when two
    /// CPUs carry one direction of one flow, a count may be lost for good, so a flow's counts are
    /// a lower bound. The counters by reason are per CPU and exact.
    #[inline(always)]
    pub fn count(&self, direction: Direction, bytes: u32) {
        let index = direction as usize;
        // SAFETY: as in `access!`; the index is 0 or 1.
        unsafe {
            let packets = ptr::addr_of_mut!((*self.record).packets).cast::<u64>().add(index);
            packets.write_volatile(packets.read_volatile().wrapping_add(1));
            let total = ptr::addr_of_mut!((*self.record).bytes).cast::<u64>().add(index);
            total.write_volatile(total.read_volatile().wrapping_add(u64::from(bytes)));
        }
    }

    /// A copy of the whole record.
    #[must_use]
    #[inline(always)]
    pub fn copy(&self) -> Flow {
        // SAFETY: as in `access!`. A copy torn by another CPU mixes two moments of one flow.
        unsafe { self.record.read_volatile() }
    }
}
