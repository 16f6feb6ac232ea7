//! What the decision reads and writes: BPF maps in the kernel, ordinary tables on the host.

use crate::abi::address::{V4, V6};
use crate::abi::block::Blocking;
use crate::abi::event::Event;
use crate::abi::filter::Filter;
use crate::abi::flow::{Flow, Table};
use crate::abi::fragment::FirstFragment;
use crate::abi::interface::{Direction, NonIp, TcpChecks};
use crate::abi::policy::{Active, List};
use crate::abi::port::PortChecks;
use crate::abi::reason::Reason;
use crate::abi::state::State;
use crate::verdict::claim::Claim;
use crate::verdict::flow::FlowRef;
use crate::verdict::segment::PackedSegment;
use crate::verdict::tcp::Transition;
use crate::wire::address::Address;
use crate::wire::packet::Packet;

/// What every packet reads about its interface, and the clock.
pub trait Interface {
    /// The attachment number.
    fn slot(&self) -> u16;

    /// The idle timeout of a state, in jiffies.
    fn timeout(&self, state: State) -> u64;

    /// Whether the policy is evaluated again for each flow after it has changed.
    fn revalidates(&self) -> bool;

    /// The active policy. Each evaluation reads it once and uses only tables that it selects.
    fn active(&self) -> Active;

    /// Jiffies since an arbitrary start.
    fn now(&self) -> u64;

    /// The guest's MAC address as [`mac_word`](crate::abi::port::mac_word); 0 where it is not checked.
    fn own_mac(&self) -> u64;
}

/// What only the fast path reads.
pub trait FastPathSettings: Interface {
    /// [`has_fast_path`](crate::abi::interface::has_fast_path), stored as one word, because every
    /// packet reads it.
    fn has_fast_path<P: Packet>(&self, packet: &P) -> bool;

    /// Whether many packets were dropped in the last jiffies: then the next packet probably has no
    /// flow either, and [`Flows::may_contain`] is checked first.
    fn under_flood(&self) -> bool;

    /// As [`Entries::filter`].
    fn filter(&self, active: Active) -> Filter;
}

/// What only the slow path reads.
pub trait SlowPathSettings: Interface {
    /// Which frames that are not IP pass.
    fn non_ip(&self) -> NonIp;

    /// Whether frames of an EtherType, which is not 0, pass besides ([`EtherTypes`](crate::abi::interface::EtherTypes)).
    fn allows_ether_type(&self, ether_type: u16) -> bool;

    /// How closely TCP is checked.
    fn tcp_checks(&self) -> TcpChecks;

    /// Whether TCP connections are picked up mid-stream (nf_conntrack's `tcp_loose`). Never with
    /// [`TcpChecks::Strict`], which needs the windows of both SYNs.
    fn tcp_loose(&self) -> bool;

    /// For how long a first fragment stays valid, in jiffies.
    fn fragment_timeout(&self) -> u64;

    /// For how long a UDP flow is not proven, in jiffies:
    /// [`UDP_STREAM_AGE`](crate::abi::interface::UDP_STREAM_AGE).
    fn udp_stream_age(&self) -> u64;

    /// Whether the packet was checked for the blocks of the host before ([`blocks::early`]), and passed.
    ///
    /// [`blocks::early`]: crate::verdict::blocks::early
    fn has_passed_blocks(&self) -> bool;

    /// Which checks of port security are on, [`PortChecks::MAC`] among them.
    fn port_checks(&self) -> PortChecks;
}

/// A flow could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Lookup in the flow tables of one address family.
pub trait FlowLookup<A: Address> {
    /// The flow's record; a lookup in an LRU table marks the flow as recently used.
    fn lookup(&self, table: Table, key: &A::Key) -> Option<FlowRef<'_>>;
}

/// The flow tables of one address family.
pub trait Flows<A: Address>: FlowLookup<A> {
    /// Whether any table may contain the flow: `false` is certain.
    fn may_contain(&self, key: &A::Key) -> bool;

    /// Stores a flow, unless there is one with the same key, which is kept; that is no error.
    /// Returns whether the flow was stored.
    ///
    /// # Errors
    /// [`Full`], and nothing was stored.
    fn insert(&self, table: Table, key: &A::Key, flow: &Flow) -> Result<bool, Full>;

    /// Removes a flow, if it is there; one of [`Table::Tcp`] no longer counts for its source.
    fn remove(&self, table: Table, key: &A::Key);
}

/// The proven TCP flows of each source ([`Address::source`]), where it has a limit.
pub trait Sources {
    /// Proven TCP flows that one source can have; 0: as many as fit.
    fn max_per_source(&self) -> u32;

    /// Counts one flow more for a source. Returns `false`, and counts nothing, if it has
    /// [`Self::max_per_source`]; asked only where that is not 0.
    fn admit_source(&self, source: u64) -> bool;

    /// Counts one fewer.
    fn release_source(&self, source: u64);
}

/// The first fragments of one address family that passed.
pub trait Fragments<A: Address> {
    /// The first fragment stored under [`fragment_key`](crate::verdict::fragment::fragment_key).
    fn lookup_fragment(&self, key: &A::Key) -> Option<FirstFragment>;

    /// Keeps a first fragment for [`Self::insert_fragment`], until the end of the packet.
    fn keep_fragment(&self, key: &A::Key, first: &FirstFragment);

    /// Stores the first fragment that was kept; it replaces an earlier one of the same key. Without room it
    /// is not stored, and its later fragments are dropped.
    fn insert_fragment(&self);
}

/// The tables of one policy or filter among those of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSet {
    /// Index in the outer maps.
    pub index: u32,
    /// Which half of their values.
    pub half: usize,
}

impl TableSet {
    /// The tables of the active policy.
    #[must_use]
    #[inline(always)]
    pub const fn policy(active: Active) -> Self {
        Self { index: active.index(), half: active.half() }
    }

    /// The tables of the filter that the active word names; both halves are equal.
    #[must_use]
    #[inline(always)]
    pub const fn filter(active: Active) -> Self {
        Self { index: active.filter_index(), half: 0 }
    }
}

/// Whether what is timed ([`TIMED`](crate::abi::policy::TIMED)) has ended. The kernel's clock decides, so
/// nothing needs to run at that time. Userspace may write another end meanwhile: a packet reads the old or
/// the new one.
pub trait Ends {
    /// Whether the rule of a number has ended, or is no more.
    fn has_rule_ended(&self, rule: u32) -> bool;

    /// Whether the entry or block has ended whose counter has this index.
    fn has_entry_ended(&self, counter: u32) -> bool;
}

/// Compiled policies and filters.
pub trait Policy: Ends {
    /// The ranges of a class in one direction, and the class's parent.
    fn class(&self, set: TableSet, class: u32, direction: Direction) -> Option<(List, u32)>;

    /// The [`Range::rule`](crate::abi::policy::Range::rule) of the range that contains `traffic`, in a list
    /// of several ranges: [`search`](crate::verdict::lookup::search).
    fn search(&self, set: TableSet, at: u32, len: u32, traffic: u32) -> Option<u32>;
}

/// The prefixes of one address family.
pub trait Prefixes<A: Address>: Policy + Sized {
    /// The class of the longest prefix that covers the address.
    fn longest_prefix(&self, set: TableSet, address: A) -> Option<u32>;
}

/// What identifies filters and blocks, and their counters.
pub trait Entries: Ends {
    /// The word of the filter that the active word names.
    fn filter(&self, active: Active) -> Filter;

    /// Which tries of blocks packets use. A packet reads it once.
    fn blocking(&self) -> Blocking;

    /// Counts a packet at the entry or block whose counter has this index.
    fn count_entry(&self, counter: u32, bytes: u32);
}

/// The blocks of the host of one address family.
pub trait Blocks<A: Address>: Entries {
    /// The value of the longest prefix that covers the address; 0 where none does.
    fn block_of(&self, blocking: Blocking, address: A) -> u32;
}

/// What every packet is checked for before flows and rules, in the kernel as BPF functions of their own.
pub trait Checks<A: Address> {
    /// [`blocks::check`](crate::verdict::blocks::check).
    fn is_blocked(&self, outside: A, bytes: u32) -> bool;

    /// [`filter::check`](crate::verdict::filter::check).
    ///
    /// # Errors
    /// The reason for which the packet is dropped.
    fn check_filter(
        &self,
        active: Active,
        direction: Direction,
        outside: A,
        traffic: u32,
        bytes: u32,
    ) -> Result<u32, Reason>;
}

/// Rule lookup of one address family: [`lookup`](crate::verdict::lookup) over [`Prefixes`], in the
/// kernel as BPF functions of their own.
pub trait Rules<A: Address> {
    /// The rule that allows `traffic` from or to any address.
    fn lookup_anywhere(&self, active: Active, direction: Direction, traffic: u32) -> Option<u32>;

    /// The rule that allows `traffic` from or to `outside`, as
    /// [`Range::rule`](crate::abi::policy::Range::rule):
    /// [`lookup_rule`](crate::verdict::lookup::lookup_rule).
    fn lookup_rule(
        &self,
        active: Active,
        direction: Direction,
        outside: A,
        traffic: u32,
    ) -> Option<u32>;
}

/// Counters besides those of the reasons.
pub trait Counts {
    /// Counts a packet that a rule allowed.
    fn count_rule(&self, rule: u32, bytes: u32);

    /// Counts an event.
    fn count_event(&self, event: Event);
}

/// The DHCP client's exchange.
pub trait Dhcp {
    /// [`dhcp::track`](crate::verdict::dhcp::track); a BPF function of its own in the kernel.
    fn track_dhcp(&self, direction: Direction, bytes: u32) -> bool;
}

/// Port security of packets of one type.
pub trait PortSecurity<P> {
    /// [`port_security::check`](crate::verdict::port_security::check) with the interface's record; a BPF
    /// function of its own in the kernel.
    ///
    /// # Errors
    /// The reason for which the packet is dropped.
    fn check_port(&self, packet: &P, claim: Claim) -> Result<(), Reason>;

    /// [`port_security::is_own_arp`](crate::verdict::port_security::is_own_arp) with the interface's
    /// record; a BPF function of its own in the kernel.
    fn is_own_arp(&self, packet: &P) -> bool;
}

/// TCP segments of live flows.
pub trait Segments {
    /// [`segment::update`](crate::verdict::segment::update); a BPF function of its own in the kernel.
    ///
    /// # Errors
    /// The reason for which the segment is dropped.
    fn update_segment(
        &self,
        flow: &FlowRef<'_>,
        segment: PackedSegment,
    ) -> Result<Transition, Reason>;
}

/// What the programs of an interface tell the slow path, where both are one.
pub trait HandOver {
    /// What [`SlowPathSettings::has_passed_blocks`] is for this packet.
    fn hand_over(&self, has_passed_blocks: bool);
}

/// All that the fast path needs.
pub trait FastPathTables: FastPathSettings + FlowLookup<V4> + FlowLookup<V6> {}

impl<T> FastPathTables for T where T: FastPathSettings + FlowLookup<V4> + FlowLookup<V6> {}

/// All that the slow path needs.
pub trait Tables:
    SlowPathSettings + Segments + Sources + Counts + Dhcp + Family<V4> + Family<V6>
{
}

impl<T> Tables for T where
    T: SlowPathSettings + Segments + Sources + Counts + Dhcp + Family<V4> + Family<V6>
{
}

/// The tables of one address family.
pub trait Family<A: Address>: Flows<A> + Fragments<A> + Checks<A> + Rules<A> {}

impl<A: Address, T> Family<A> for T where T: Flows<A> + Fragments<A> + Checks<A> + Rules<A> {}
