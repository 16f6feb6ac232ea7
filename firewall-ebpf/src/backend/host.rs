//! The tables and the packet in ordinary memory, for tests, fuzzers and simulation.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use crate::abi::address::{V4, V6};
use crate::abi::block::Blocking;
use crate::abi::event::Event;
use crate::abi::filter::Filter;
use crate::abi::flow::{Flow, FlowKey4, FlowKey6, Table, Tier};
use crate::abi::fragment::FirstFragment;
use crate::abi::interface::{
    Direction, EtherTypes, FRAGMENT_TIMEOUT, NonIp, TcpChecks, UDP_STREAM_AGE, has_fast_path,
};
use crate::abi::limits::MAX_INTERFACES;
use crate::abi::policy::{Active, Class, Half, Has, List, Page};
use crate::abi::port::{PortChecks, PortSecurity as Port};
use crate::abi::prefix::Prefix;
use crate::abi::reason::Reason;
use crate::abi::state::State;
use crate::verdict::claim::Claim;
use crate::verdict::flow::FlowRef;
use crate::verdict::segment::{self, PackedSegment};
use crate::verdict::tables::{
    Blocks, Checks, Counts, Dhcp, Ends, Entries, FastPathSettings, FlowLookup, Flows, Fragments,
    Full, HandOver, Interface, Policy, PortSecurity, Prefixes, Rules, Segments, SlowPathSettings,
    Sources, TableSet,
};
use crate::verdict::tcp::Transition;
use crate::verdict::{blocks, dhcp, filter, lookup, port_security};
use crate::wire::address::Address;
use crate::wire::packet::{Packet, Wire};
pub use crate::wire::slice::HostPacket;

/// A policy as the kernel's tables hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPolicy {
    /// Class by prefix, without /0.
    pub prefixes_v4: BTreeMap<Prefix<4>, u32>,
    /// The same for IPv6.
    pub prefixes_v6: BTreeMap<Prefix<16>, u32>,
    /// Rows by class.
    pub rows: Vec<Class>,
    /// Pages of ranges by number.
    pub pages: Vec<Page>,
    /// See [`Has`].
    pub has: Has,
}

/// The blocks of the host: the value of each prefix, /0 among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostBlocks {
    /// See [`crate::abi::block`].
    pub v4: BTreeMap<Prefix<4>, u32>,
    /// The same for IPv6.
    pub v6: BTreeMap<Prefix<16>, u32>,
}

type FlowTables<K> = RefCell<HashMap<(Table, K), Box<UnsafeCell<Flow>>>>;

/// All tables of one interface, in ordinary memory, with a clock that the test moves.
#[derive(Default)]
pub struct HostTables {
    /// See [`Interface::slot`].
    pub slot: u16,
    /// See [`SlowPathSettings::non_ip`].
    pub non_ip: NonIp,
    /// See [`SlowPathSettings::allows_ether_type`].
    pub ether_types: EtherTypes,
    /// Timeouts in jiffies that differ from the default seconds times [`HostTables::HZ`].
    pub timeouts: BTreeMap<State, u64>,
    /// Jiffies.
    pub now: Cell<u64>,
    policy: Option<HostPolicy>,
    filter: Option<HostPolicy>,
    /// The filters so far: the place of one is its generation.
    filters: Vec<HostPolicy>,
    /// The blocks of the host; where there are any, packets are subject to them.
    pub blocks: HostBlocks,
    /// When rules end, by number, in nanoseconds of [`Self::boottime`].
    pub rule_ends: BTreeMap<u32, u64>,
    /// When entries and blocks end, by the index of their counter.
    pub entry_ends: BTreeMap<u32, u64>,
    /// Packets and bytes of entries and blocks, by the index of their counter.
    pub entries: RefCell<BTreeMap<u32, (u64, u64)>>,
    /// Fail every insert into this table, as a full hash does.
    pub full: Cell<Option<Table>>,
    /// Packets and bytes by rule.
    pub rules: RefCell<BTreeMap<u32, (u64, u64)>>,
    /// Count of each event.
    pub events: RefCell<BTreeMap<Event, u64>>,
    /// See [`SlowPathSettings::tcp_checks`].
    pub tcp_checks: TcpChecks,
    /// See [`Interface::revalidates`].
    pub revalidate: bool,
    /// Policies so far: the generation of the active one.
    generation: u32,
    /// The opposite of [`SlowPathSettings::tcp_loose`], so that the default is the interface's.
    pub no_tcp_loose: bool,
    /// The record of port security.
    pub port: Port,
    /// See [`Sources::max_per_source`].
    pub max_per_source: u32,
    v4: FlowTables<FlowKey4>,
    v6: FlowTables<FlowKey6>,
    sources: RefCell<HashMap<u64, u32>>,
    fragments_v4: RefCell<HashMap<FlowKey4, FirstFragment>>,
    fragments_v6: RefCell<HashMap<FlowKey6, FirstFragment>>,
    has_passed_blocks: Cell<bool>,
    kept_v4: Cell<Option<(FlowKey4, FirstFragment)>>,
    kept_v6: Cell<Option<(FlowKey6, FirstFragment)>>,
}

impl HostTables {
    /// Jiffies in a second of the host's clock.
    pub const HZ: u64 = 250;

    /// Tables of an interface with this policy. The clock starts far from a wrap.
    #[must_use]
    pub fn new(slot: u16, policy: impl Into<HostPolicy>) -> Self {
        let mut tables = Self { slot, ..Self::default() };
        tables.set_policy(Some(policy.into()));
        tables.now.set(Self::HZ * 1_000_000);
        tables
    }

    /// The active policy.
    #[must_use]
    pub const fn policy(&self) -> Option<&HostPolicy> {
        self.policy.as_ref()
    }

    /// Returns to the state before the first policy.
    pub fn clear_policy(&mut self) {
        (self.policy, self.generation) = (None, 0);
    }

    /// Makes a policy active; `None`: the state before the first one.
    pub fn set_policy(&mut self, policy: Option<HostPolicy>) {
        self.generation += u32::from(policy.is_some());
        self.policy = policy;
    }

    /// The present filter.
    #[must_use]
    pub const fn filter_tables(&self) -> Option<&HostPolicy> {
        self.filter.as_ref()
    }

    /// Makes a filter the interface's, or none.
    pub fn set_filter(&mut self, filter: Option<HostPolicy>) {
        if let Some(filter) = &filter
            && !self.filters.contains(filter)
        {
            self.filters.push(filter.clone());
        }
        self.filter = filter;
    }

    /// Nanoseconds of the clock that ends are compared with.
    #[must_use]
    pub fn boottime(&self) -> u64 {
        self.now.get() * (1_000_000_000 / Self::HZ)
    }

    /// Advances the clock.
    pub fn advance(&self, jiffies: u64) {
        self.now.set(self.now.get() + jiffies);
    }

    /// A copy of every IPv4 flow.
    #[must_use]
    pub fn flows_v4(&self) -> BTreeMap<(Tier, FlowKey4), Flow> {
        snapshot(&self.v4)
    }

    /// A copy of every IPv6 flow.
    #[must_use]
    pub fn flows_v6(&self) -> BTreeMap<(Tier, FlowKey6), Flow> {
        snapshot(&self.v6)
    }

    fn lookup_flow<'a, K: Copy + Eq + Hash>(
        flows: &'a FlowTables<K>,
        table: Table,
        key: &K,
    ) -> Option<FlowRef<'a>> {
        let flows = flows.borrow();
        let record = flows.get(&(table, *key))?.get();
        // SAFETY: the record is boxed, so it does not move while the table grows, and only
        // `FlowRef` and `snapshot` (a copy) read it. `decide` drops the reference before it
        // removes the flow.
        Some(unsafe { FlowRef::new(record) })
    }

    fn insert_flow<K: Copy + Eq + Hash>(
        &self,
        flows: &FlowTables<K>,
        table: Table,
        key: &K,
        flow: &Flow,
    ) -> Result<bool, Full> {
        if self.full.get() == Some(table) {
            return Err(Full);
        }
        match flows.borrow_mut().entry((table, *key)) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(entry) => {
                entry.insert(Box::new(UnsafeCell::new(*flow)));
                Ok(true)
            }
        }
    }
}

fn snapshot<K: Copy + Ord + Hash>(flows: &FlowTables<K>) -> BTreeMap<(Tier, K), Flow> {
    let flows = flows.borrow();
    let copies = flows.iter().map(|((table, key), flow)| {
        // SAFETY: a copy of a record that is not written meanwhile: the tables are not `Sync`.
        ((table.tier(), *key), unsafe { *flow.get() })
    });
    copies.collect()
}

impl Interface for HostTables {
    fn slot(&self) -> u16 {
        self.slot
    }

    fn timeout(&self, state: State) -> u64 {
        let default = || u64::from(state.default_timeout()) * Self::HZ;
        self.timeouts.get(&state).copied().unwrap_or_else(default)
    }

    fn revalidates(&self) -> bool {
        self.revalidate
    }

    fn active(&self) -> Active {
        let tables = Half { slot: self.slot, ..Half::default() };
        let has_blocks = !self.blocks.v4.is_empty() || !self.blocks.v6.is_empty();
        self.policy.as_ref().map_or(Active(0), |policy| {
            Active::new(tables, policy.has, self.generation)
                .with_filter(self.filter.as_ref().map(|_| 0))
                .with_blocks(has_blocks)
        })
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn own_mac(&self) -> u64 {
        self.port.mac
    }
}

impl FastPathSettings for HostTables {
    fn has_fast_path<P: Packet>(&self, packet: &P) -> bool {
        has_fast_path(packet.has_ethernet(), self.tcp_checks)
    }

    fn under_flood(&self) -> bool {
        false
    }

    fn filter(&self, active: Active) -> Filter {
        Entries::filter(self, active)
    }
}

impl SlowPathSettings for HostTables {
    fn non_ip(&self) -> NonIp {
        self.non_ip
    }

    fn allows_ether_type(&self, ether_type: u16) -> bool {
        self.ether_types.contains(ether_type)
    }

    fn tcp_checks(&self) -> TcpChecks {
        self.tcp_checks
    }

    fn tcp_loose(&self) -> bool {
        !self.no_tcp_loose
    }

    fn fragment_timeout(&self) -> u64 {
        u64::from(FRAGMENT_TIMEOUT) * Self::HZ
    }

    fn udp_stream_age(&self) -> u64 {
        u64::from(UDP_STREAM_AGE) * Self::HZ
    }

    fn port_checks(&self) -> PortChecks {
        self.port.checks
    }

    fn has_passed_blocks(&self) -> bool {
        self.has_passed_blocks.get()
    }
}

impl HandOver for HostTables {
    fn hand_over(&self, has_passed_blocks: bool) {
        self.has_passed_blocks.set(has_passed_blocks);
    }
}

impl Sources for HostTables {
    fn max_per_source(&self) -> u32 {
        self.max_per_source
    }

    fn admit_source(&self, source: u64) -> bool {
        let mut sources = self.sources.borrow_mut();
        let count = sources.entry(source).or_default();
        let admits = *count < self.max_per_source;
        *count += u32::from(admits);
        admits
    }

    fn release_source(&self, source: u64) {
        if let Some(count) = self.sources.borrow_mut().get_mut(&source) {
            *count = count.saturating_sub(1);
        }
    }
}

macro_rules! flows {
    ($address:ty, $key:ty, $field:ident, $fragments:ident, $kept:ident, $prefixes:ident,
        $any:expr) => {
        impl FlowLookup<$address> for HostTables {
            fn lookup(&self, table: Table, key: &$key) -> Option<FlowRef<'_>> {
                Self::lookup_flow(&self.$field, table, key)
            }
        }

        impl Flows<$address> for HostTables {
            fn may_contain(&self, key: &$key) -> bool {
                let flows = self.$field.borrow();
                Table::ALL.iter().any(|table| flows.contains_key(&(*table, *key)))
            }

            fn insert(&self, table: Table, key: &$key, flow: &Flow) -> Result<bool, Full> {
                self.insert_flow(&self.$field, table, key, flow)
            }

            fn remove(&self, table: Table, key: &$key) {
                let existed = self.$field.borrow_mut().remove(&(table, *key)).is_some();
                if existed && table == Table::Tcp {
                    self.release_source(<$address>::source(key));
                }
            }
        }

        impl Fragments<$address> for HostTables {
            fn lookup_fragment(&self, key: &$key) -> Option<FirstFragment> {
                self.$fragments.borrow().get(key).copied()
            }

            fn keep_fragment(&self, key: &$key, first: &FirstFragment) {
                self.$kept.set(Some((*key, *first)));
            }

            fn insert_fragment(&self) {
                self.$fragments.borrow_mut().extend(self.$kept.take());
            }
        }

        impl Prefixes<$address> for HostTables {
            fn longest_prefix(&self, set: TableSet, address: $address) -> Option<u32> {
                longest_prefix(&self.tables(set)?.$prefixes, octets(&address))
            }
        }

        impl Blocks<$address> for HostTables {
            fn block_of(&self, _: Blocking, address: $address) -> u32 {
                let blocks = &self.blocks.$field;
                let longest = longest_prefix(blocks, octets(&address));
                longest.or_else(|| blocks.get(&$any).copied()).unwrap_or(0)
            }
        }

        impl Checks<$address> for HostTables {
            fn is_blocked(&self, outside: $address, bytes: u32) -> bool {
                blocks::check(self, outside, bytes)
            }

            fn check_filter(
                &self,
                active: Active,
                direction: Direction,
                outside: $address,
                traffic: u32,
                bytes: u32,
            ) -> Result<u32, Reason> {
                let checked = filter::check(self, active, direction, outside, traffic, bytes);
                // Through the packed result, as in the kernel.
                filter::unpack(filter::pack(checked))
            }
        }

        impl Rules<$address> for HostTables {
            fn lookup_anywhere(
                &self,
                active: Active,
                direction: Direction,
                traffic: u32,
            ) -> Option<u32> {
                let set = TableSet::policy(active);
                lookup::lookup_class(self, set, direction, <$address>::ANY, traffic).0
            }

            fn lookup_rule(
                &self,
                active: Active,
                direction: Direction,
                outside: $address,
                traffic: u32,
            ) -> Option<u32> {
                lookup::lookup_rule(self, active, direction, outside, traffic)
            }
        }
    };
}

flows!(V4, FlowKey4, v4, fragments_v4, kept_v4, prefixes_v4, Prefix::new([0; 4], 0));
flows!(V6, FlowKey6, v6, fragments_v6, kept_v6, prefixes_v6, Prefix::new([0; 16], 0));

/// The octets of an address in network byte order.
fn octets<A: Address + Wire, const N: usize>(address: &A) -> [u8; N] {
    const { assert!(size_of::<A>() == N) };
    // SAFETY: same size, and any bytes are valid octets.
    unsafe { core::ptr::from_ref(address).cast::<[u8; N]>().read() }
}

/// The class of the longest prefix that contains an address.
fn longest_prefix<const N: usize>(
    prefixes: &BTreeMap<Prefix<N>, u32>,
    octets: [u8; N],
) -> Option<u32> {
    let host = Prefix::host(octets);
    std::iter::once(host).chain(host.enclosing()).find_map(|prefix| prefixes.get(&prefix).copied())
}

impl HostTables {
    /// The tables of a set, which is of the policy or of the filter.
    const fn tables(&self, set: TableSet) -> Option<&HostPolicy> {
        let is_filter = set.index >= 2 * MAX_INTERFACES;
        if is_filter { self.filter.as_ref() } else { self.policy.as_ref() }
    }
}

impl Policy for HostTables {
    fn class(&self, set: TableSet, class: u32, direction: Direction) -> Option<(List, u32)> {
        let row = self.tables(set)?.rows.get(usize::try_from(class).ok()?)?;
        Some((row.lists[direction as usize], row.parent))
    }

    fn search(&self, set: TableSet, at: u32, len: u32, traffic: u32) -> Option<u32> {
        let pages = &self.tables(set)?.pages;
        let page = |number| pages.get(usize::try_from(number).ok()?);
        lookup::search(at.into(), len.into(), u64::from(traffic) + 1, page)
    }
}

impl Ends for HostTables {
    fn has_rule_ended(&self, rule: u32) -> bool {
        self.rule_ends.get(&rule).is_none_or(|end| self.boottime() >= *end)
    }

    fn has_entry_ended(&self, counter: u32) -> bool {
        self.entry_ends.get(&counter).is_some_and(|end| self.boottime() >= *end)
    }
}

impl Entries for HostTables {
    fn filter(&self, _: Active) -> Filter {
        self.filter.as_ref().map_or(Filter(0), |filter| {
            let place = self.filters.iter().position(|one| one == filter).unwrap_or(0);
            // Generations are odd: a counter would be the same twice.
            Filter::new(u64::try_from(place).unwrap_or(0) << 33, filter.has.prefixes)
        })
    }

    fn blocking(&self) -> Blocking {
        Blocking::new([!self.blocks.v4.is_empty(), !self.blocks.v6.is_empty()], 0, 0)
    }

    fn count_entry(&self, counter: u32, bytes: u32) {
        add(&mut self.entries.borrow_mut(), counter, bytes);
    }
}

/// Adds one packet to a counter.
fn add(counters: &mut BTreeMap<u32, (u64, u64)>, key: u32, bytes: u32) {
    let count = counters.entry(key).or_default();
    count.0 += 1;
    count.1 += u64::from(bytes);
}

impl<P: Packet> PortSecurity<P> for HostTables {
    fn check_port(&self, packet: &P, claim: Claim) -> Result<(), Reason> {
        port_security::check(packet, &self.port, claim)
    }

    fn is_own_arp(&self, packet: &P) -> bool {
        port_security::is_own_arp(packet, &self.port)
    }
}

impl Segments for HostTables {
    fn update_segment(
        &self,
        flow: &FlowRef<'_>,
        segment: PackedSegment,
    ) -> Result<Transition, Reason> {
        // Through the packed result, as in the kernel.
        segment::unpack(segment::pack(segment::update(flow, segment, self.tcp_checks)))
    }
}

impl Dhcp for HostTables {
    fn track_dhcp(&self, direction: Direction, bytes: u32) -> bool {
        dhcp::track(self, direction, bytes)
    }
}

impl Counts for HostTables {
    fn count_rule(&self, rule: u32, bytes: u32) {
        add(&mut self.rules.borrow_mut(), rule, bytes);
    }

    fn count_event(&self, event: Event) {
        *self.events.borrow_mut().entry(event).or_default() += 1;
    }
}
