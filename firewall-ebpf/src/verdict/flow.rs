//! Flow keys of packets, and access to the flow records in a map.

use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr;

use crate::abi::flow::{
    Flow, INITIATOR_EGRESS, NUMBERS_KNOWN, QUERY_FROM_INSIDE, QUERY_FROM_OUTSIDE,
};
use crate::abi::interface::Direction;
use crate::wire::address::Address;
use crate::wire::headers::{Kind, PacketHeaders};

const _: () = assert!(
    offset_of!(Flow, state).is_multiple_of(4)
        && offset_of!(Flow, flags) == offset_of!(Flow, state) + 1
        && offset_of!(Flow, scales) == offset_of!(Flow, state) + 2
        && offset_of!(Flow, pending) == offset_of!(Flow, state) + 3
);

/// The key of the flow that a packet belongs to, if it belongs to one.
#[inline(always)]
pub fn flow_key<A: Address>(headers: &PacketHeaders<A>, direction: Direction, slot: u16) -> A::Key {
    let query = match (headers.kind, direction) {
        (Kind::Request, Direction::Egress) | (Kind::Reply, Direction::Ingress) => QUERY_FROM_INSIDE,
        (Kind::Request, Direction::Ingress) | (Kind::Reply, Direction::Egress) => {
            QUERY_FROM_OUTSIDE
        }
        _ => 0,
    };
    // Inside first.
    let (inside, outside, ports) = match direction {
        Direction::Ingress => (headers.dst, headers.src, headers.ports.rotate_left(16)),
        Direction::Egress => (headers.src, headers.dst, headers.ports),
    };
    let tail =
        ports as u64 | (slot as u64) << 32 | (headers.protocol as u64) << 48 | (query as u64) << 56;
    A::key(inside, outside, tail)
}

/// Whether more than `timeout` jiffies have passed since `last_seen`. Another CPU may have read the
/// clock later and written first: then they have not.
#[must_use]
#[inline(always)]
pub const fn is_expired(last_seen: u64, now: u64, timeout: u64) -> bool {
    let idle = now.wrapping_sub(last_seen);
    // From half of all jiffies on, `last_seen` is later than `now`.
    idle > timeout && idle < 1 << 63
}

/// The low 32 bits of the clock, as in [`Flow::created`].
#[inline(always)]
pub(super) const fn low_half(jiffies: u64) -> u32 {
    (jiffies & 0xffff_ffff) as u32
}

/// Whether a packet of this direction was sent by the initiator of the flow with these
/// [`flags`](Flow::flags).
#[inline(always)]
pub(super) const fn is_from_initiator(flags: u8, direction: Direction) -> bool {
    (flags & INITIATOR_EGRESS != 0) == matches!(direction, Direction::Egress)
}

/// A flow's record in a table, which other CPUs may use at the same time.
///
/// Fields are read and written one by one, volatile and unlocked (a spin lock costs as much as
/// the lookup). Who races, and why it heals:
///
/// * Two packets of one flow on two CPUs. Each field is one word, so a reader sees the old or the
///   new value. A lost state change is repeated by the next segment of the same type (a
///   retransmitted FIN, the next ACK). Until then the flow has a longer idle timeout, never a
///   wider permission: packets pass because the flow exists, its state only sets the timeout.
/// * The same two packets and TCP's numbers. The lower of two numbers may remain; the next segment
///   raises it. In strict a lost window edge may drop a segment just beyond it, which its sender
///   retransmits after the other end's next acknowledgement. Flags and pending bits are read, changed
///   and written as a byte, so one of two changes at once may be lost: a number then becomes known, or
///   a FIN is confirmed, one segment later.
/// * Two packets with revalidation during a change of policy. The result is one word, the epoch; if
///   the packet that used the older policy writes last, the next packet evaluates again.
/// * Two packets while another filter becomes active. The result is one word by direction; if the packet
///   that used the older filter writes last, the next packet of the direction is looked up again.
/// * A packet that holds a record while it is removed and reused for another flow, which the
///   kernel's preallocated tables do at once. It may refresh, count or change the state of that other
///   flow by one packet. That flow's own packets restore time and state; the key, and with it what
///   the flow permits, is never written here. What it writes about its filter means nothing for another
///   key ([`mark`](super::filter::mark)).
/// * A packet that holds the record in the new tier while another copies it to the proven tier.
///   The copy lacks that packet's count and time; the next packet updates both.
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
        created, set_created, created: u32;
        epoch, set_epoch, epoch: u32;
        ack_low, set_ack_low, ack_low: u32;
        ack_high, set_ack_high, ack_high: u32;
        state, set_state, state: u8;
        flags, set_flags, flags: u8;
        scales, set_scales, scales: u8;
        pending, set_pending, pending: u8;
    }

    access_by_direction! {
        filter, set_filter, filter: u32;
        next_seq, set_next_seq, next_seq: u32;
        last_ack, set_last_ack, last_ack: u32;
        limit, set_limit, limit: u32;
        window, set_window, window: u32;
    }

    /// The window scale of an end ([`Flow::scales`]).
    #[must_use]
    #[inline(always)]
    pub fn scale(&self, direction: Direction) -> u8 {
        match direction {
            Direction::Ingress => self.scales() & 0xf,
            Direction::Egress => self.scales() >> 4,
        }
    }

    /// Writes the window scale of an end.
    #[inline(always)]
    pub fn set_scale(&self, direction: Direction, scale: u8) {
        let scales = self.scales();
        self.set_scales(match direction {
            Direction::Ingress => scales & 0xf0 | scale & 0xf,
            Direction::Egress => scales & 0xf | scale << 4,
        });
    }

    /// State, flags, scales and pending bits in one word, as they are in memory: one load for the fast
    /// path.
    #[must_use]
    #[inline(always)]
    pub fn status(&self) -> u32 {
        // SAFETY: as in `access!`; the four bytes from `state` on are an aligned word (see below).
        unsafe { ptr::addr_of!((*self.record).state).cast::<u32>().read_volatile() }
    }

    /// Whether the numbers of both ends are known ([`NUMBERS_KNOWN`]).
    #[must_use]
    #[inline(always)]
    pub fn are_numbers_known(&self) -> bool {
        self.flags() & NUMBERS_KNOWN != 0
    }

    /// Adds one packet. Not atomic (two atomic additions cost a fifth of the fast path): when two
    /// CPUs handle one direction of one flow, a count may be lost, so a flow's counts are a lower
    /// bound. The counters by reason are per CPU and exact.
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

    /// Whether the flow existed before its interface was attached: no rule admitted it, so none can
    /// be revoked.
    #[must_use]
    #[inline(always)]
    pub fn is_learned(&self) -> bool {
        self.rule() == 0
    }

    /// The record, for a BPF function of its own.
    #[must_use]
    #[inline(always)]
    pub const fn record(&self) -> *mut Flow {
        self.record
    }

    /// A copy of the whole record.
    #[must_use]
    #[inline(always)]
    pub fn copy(&self) -> Flow {
        // SAFETY: as in `access!`. A copy torn by another CPU's write mixes two states of one flow.
        unsafe { self.record.read_volatile() }
    }
}
