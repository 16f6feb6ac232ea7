//! The tables and the packet in ordinary memory, for tests, fuzzers and simulation.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use crate::abi::address::{V4, V6};
use crate::abi::event::Event;
use crate::abi::flow::{Flow, FlowKey4, FlowKey6, Table, Tier};
use crate::abi::fragment::FirstFragment;
use crate::abi::interface::{
    Direction, EtherTypes, FRAGMENT_TIMEOUT, NonIp, TcpChecks, UDP_STREAM_AGE, has_fast_path,
};
use crate::abi::policy::{Active, Class, Half, Has, List, Page};
use crate::abi::port::{PortChecks, PortSecurity as Port};
use crate::abi::prefix::Prefix;
use crate::abi::reason::Reason;
use crate::abi::state::State;
use crate::verdict::claim::Claim;
use crate::verdict::flow::FlowRef;
use crate::verdict::segment::{self, PackedSegment};
use crate::verdict::tables::{
    Counts, Dhcp, FastPathSettings, FlowLookup, Flows, Fragments, Full, Interface, Policy,
    PortSecurity, Prefixes, Rules, Segments, SlowPathSettings, Sources,
};
use crate::verdict::tcp::Transition;
use crate::verdict::{dhcp, lookup, port_security};
use crate::wire::address::Address;
use crate::wire::packet::{Packet, Wire};
use crate::wire::{LinkMessage, find_window_scale, is_link_message};

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
        self.policy
            .as_ref()
            .map_or(Active(0), |policy| Active::new(tables, policy.has, self.generation))
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
    ($address:ty, $key:ty, $field:ident, $fragments:ident, $prefixes:ident) => {
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

            fn insert_fragment(&self, key: &$key, first: &FirstFragment) {
                self.$fragments.borrow_mut().insert(*key, *first);
            }
        }

        impl Prefixes<$address> for HostTables {
            fn longest_prefix(&self, _: Active, address: $address) -> Option<u32> {
                longest_prefix(&self.policy.as_ref()?.$prefixes, octets(&address))
            }
        }

        impl Rules<$address> for HostTables {
            fn lookup_anywhere(
                &self,
                active: Active,
                direction: Direction,
                traffic: u32,
            ) -> Option<u32> {
                lookup::lookup_class(self, active, direction, <$address>::ANY, traffic).0
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

flows!(V4, FlowKey4, v4, fragments_v4, prefixes_v4);
flows!(V6, FlowKey6, v6, fragments_v6, prefixes_v6);

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

impl Policy for HostTables {
    fn class(&self, _: Active, class: u32, direction: Direction) -> Option<(List, u32)> {
        let row = self.policy.as_ref()?.rows.get(usize::try_from(class).ok()?)?;
        Some((row.lists[direction as usize], row.parent))
    }

    fn search(&self, _: Active, at: u32, len: u32, traffic: u32) -> Option<u32> {
        let pages = &self.policy.as_ref()?.pages;
        let page = |number| pages.get(usize::try_from(number).ok()?);
        lookup::search(at.into(), len.into(), u64::from(traffic) + 1, page)
    }
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
        let mut rules = self.rules.borrow_mut();
        let count = rules.entry(rule).or_default();
        count.0 += 1;
        count.1 += u64::from(bytes);
    }

    fn count_event(&self, event: Event) {
        *self.events.borrow_mut().entry(event).or_default() += 1;
    }
}
