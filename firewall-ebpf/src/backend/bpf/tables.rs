//! The decision's tables over BPF maps: what the slow path reads and writes.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::event::{Event, event_index};
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6, Table};
use firewall_ebpf::abi::fragment::FirstFragment;
use firewall_ebpf::abi::helper::pack_query;
use firewall_ebpf::abi::interface::{Call, Direction, NonIp, Settings, TIMEOUT_SPACE, TcpChecks};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::port::{PortChecks, PortSecurity};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::verdict::filter;
use firewall_ebpf::verdict::flow::FlowRef;
use firewall_ebpf::verdict::segment::{self, PackedSegment};
use firewall_ebpf::verdict::tables::{
    Checks, Counts, Dhcp, FlowLookup, Flows, Fragments, Full, Interface, Rules, Segments,
    SlowPathSettings, Sources,
};
use firewall_ebpf::verdict::tcp::Transition;
use firewall_ebpf::wire::address::Address;

use super::policy::PolicyTables;
use super::subprograms::{
    sg_blocked_v4, sg_blocked_v6, sg_bloom_set, sg_bloom_test, sg_dhcp, sg_ether_type,
    sg_filter_v4, sg_filter_v6, sg_insert_v4, sg_insert_v6, sg_remove_v4, sg_remove_v6, sg_segment,
    sg_segment_strict, sg_source,
};
use super::{globals, maps};

const EEXIST: i32 = -17;

/// One interface's settings and tables.
pub(super) struct Kernel {
    /// The lower half of a `Call`: one word for all of it, because the slow path has no stack to spare.
    call: u32,
    settings: *const Settings,
}

impl Kernel {
    /// The interface of a call.
    #[inline(always)]
    pub(super) fn new(call: Call) -> Option<Self> {
        let settings = maps::SETTINGS_OF.get_ptr(call.settings())?;
        Some(Self { call: (call.0 & 0xffff) as u32, settings })
    }

    /// The interface with the settings of this index.
    #[inline(always)]
    pub(super) fn of_settings(index: u32) -> Option<Self> {
        Self::new(Call(index.into()))
    }

    /// The interface of a slot, for what needs no settings.
    #[inline(always)]
    pub(super) fn of_slot(slot: u16) -> Option<Self> {
        Self::of_settings(u32::from(slot) * 2)
    }

    /// Index of the settings.
    #[inline(always)]
    pub(super) const fn settings_index(&self) -> u32 {
        Call(self.call as u64).settings()
    }

    /// The record of port security.
    #[inline(always)]
    pub(super) fn port(&self) -> &PortSecurity {
        &self.settings().port
    }

    #[inline(always)]
    fn settings(&self) -> &Settings {
        // SAFETY: an element of an array map, which stays readable. Userspace does not write a record
        // that an attached program refers to.
        unsafe { &*self.settings }
    }
}

impl Interface for Kernel {
    #[inline(always)]
    fn slot(&self) -> u16 {
        (self.settings_index() >> 1) as u16
    }

    #[inline(always)]
    fn timeout(&self, state: State) -> u64 {
        self.settings().timeouts[state as usize & (TIMEOUT_SPACE - 1)]
    }

    #[inline(always)]
    fn revalidates(&self) -> bool {
        globals::revalidates()
    }

    #[inline(always)]
    fn active(&self) -> Active {
        maps::active(self.slot())
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes no argument and has no effect. The verifier inlines it as one load.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn own_mac(&self) -> u64 {
        self.port().mac
    }
}

impl SlowPathSettings for Kernel {
    #[inline(always)]
    fn non_ip(&self) -> NonIp {
        NonIp::from_number(self.settings().non_ip)
    }

    #[inline(always)]
    fn allows_ether_type(&self, ether_type: u16) -> bool {
        sg_ether_type(self.settings_index(), ether_type.into()) != 0
    }

    #[inline(always)]
    fn tcp_checks(&self) -> TcpChecks {
        globals::tcp_checks()
    }

    #[inline(always)]
    fn tcp_loose(&self) -> bool {
        self.settings().tcp_loose != 0
    }

    #[inline(always)]
    fn fragment_timeout(&self) -> u64 {
        self.settings().fragment_timeout
    }

    #[inline(always)]
    fn udp_stream_age(&self) -> u64 {
        self.settings().udp_stream_age
    }

    #[inline(always)]
    fn has_passed_blocks(&self) -> bool {
        Call(self.call.into()).has_passed_blocks()
    }

    #[inline(always)]
    fn port_checks(&self) -> PortChecks {
        self.settings().port.checks
    }
}

/// Removal without a call, for a loop: after a call of a BPF function the verifier does not recognise the
/// states of earlier rounds. The counts of flows by source are left to userspace, which removes with it.
pub(super) trait Removal<A: Address> {
    /// Removes a flow, if it is there.
    fn remove_inline(&self, table: Table, key: &A::Key);
}

macro_rules! family {
    ($address:ty, $key:ty, $lru:ident, $tcp:ident, $fragments:ident, $kept:ident,
        $scratch:ident, $insert:ident, $remove:ident, $blocked:expr, $filter:expr) => {
        impl FlowLookup<$address> for Kernel {
            #[inline(always)]
            fn lookup(&self, table: Table, key: &$key) -> Option<FlowRef<'_>> {
                let slot = self.slot();
                let record = match table {
                    Table::New | Table::Udp => {
                        maps::$lru.get_value_ptr_mut(table.lru_index(slot), key)
                    }
                    Table::Tcp => maps::$tcp.get_value_ptr_mut(slot.into(), key),
                }?;
                // SAFETY: a record stays readable and writable until the program ends, though it may
                // be reused for another flow of the same table at once: see `FlowRef`. That holds for
                // preallocated tables, and for others because their memory is freed only after a
                // grace period (`bpf_mem_alloc`, kernel/bpf/memalloc.c).
                Some(unsafe { FlowRef::new(record.cast()) })
            }
        }

        impl Flows<$address> for Kernel {
            #[inline(always)]
            fn may_contain(&self, key: &$key) -> bool {
                sg_bloom_test(self.slot().into(), <$address>::bit(key).0) != 0
            }

            #[inline(always)]
            fn insert(&self, table: Table, key: &$key, flow: &Flow) -> Result<bool, Full> {
                let slot = self.slot();
                // First, so that no packet finds the flow without its bit.
                sg_bloom_set(slot.into(), <$address>::bit(key).0);
                let Some(scratch) = maps::$scratch.get_ptr_mut(0) else { return Err(Full) };
                // SAFETY: this CPU's record, and no other program uses it between here and the
                // insert: see `maps::add`.
                unsafe { scratch.write(maps::Scratch { key: *key, flow: *flow }) };
                match $insert(slot.into(), table as u32) {
                    0 => Ok(true),
                    EEXIST => Ok(false),
                    _ => Err(Full),
                }
            }

            #[inline(always)]
            fn remove(&self, table: Table, key: &$key) {
                if let Some(scratch) = maps::$scratch.get_ptr_mut(0) {
                    // SAFETY: as in `insert`.
                    unsafe { (&raw mut (*scratch).key).write(*key) };
                    $remove(self.slot().into(), table as u32);
                }
            }
        }

        impl Removal<$address> for Kernel {
            #[inline(always)]
            fn remove_inline(&self, table: Table, key: &$key) {
                let slot = self.slot();
                // Another CPU may have removed it already.
                match table {
                    Table::New | Table::Udp => {
                        if let Some(table) = maps::$lru.get(table.lru_index(slot)) {
                            let _ = table.remove(key);
                        }
                    }
                    Table::Tcp => {
                        if let Some(table) = maps::$tcp.get(slot.into()) {
                            let _ = table.remove(key);
                        }
                    }
                }
            }
        }

        impl Fragments<$address> for Kernel {
            #[inline(always)]
            fn lookup_fragment(&self, key: &$key) -> Option<FirstFragment> {
                let record = maps::$fragments.get_value_ptr_mut(self.slot().into(), key)?;
                // SAFETY: preallocated like the flows, so readable for the life of the map. A
                // record that is reused between the lookup and this read belongs to another packet
                // whose first fragment passed too; a copy torn between two mixes their times and
                // ends, which passes or drops one fragment wrongly.
                Some(unsafe { record.cast::<FirstFragment>().read_volatile() })
            }

            #[inline(always)]
            fn keep_fragment(&self, key: &$key, first: &FirstFragment) {
                if let Some(kept) = maps::$kept.get_ptr_mut(0) {
                    // SAFETY: this CPU's record, and no other program uses it before the end of the
                    // packet: see `maps::add`.
                    unsafe { kept.write(maps::Kept { key: *key, first: [*first] }) };
                }
            }

            #[inline(always)]
            fn insert_fragment(&self) {
                if let Some(kept) = maps::$kept.get_ptr(0)
                    && let Some(table) = maps::$fragments.get(self.slot().into())
                {
                    // SAFETY: as in `keep_fragment`, which wrote it for this packet.
                    let kept = unsafe { &*kept };
                    // The last write remains. Without room the later fragments are dropped.
                    let _ = table.insert(&kept.key, &kept.first, 0);
                }
            }
        }

        impl Checks<$address> for Kernel {
            #[inline(always)]
            fn is_blocked(&self, outside: $address, bytes: u32) -> bool {
                $blocked(outside, bytes) != 0
            }

            #[inline(always)]
            fn check_filter(
                &self,
                active: Active,
                direction: Direction,
                outside: $address,
                traffic: u32,
                bytes: u32,
            ) -> Result<u32, Reason> {
                filter::unpack($filter(active.0, pack_query(direction, traffic), outside, bytes))
            }
        }

        impl Rules<$address> for Kernel {
            #[inline(always)]
            fn lookup_anywhere(
                &self,
                active: Active,
                direction: Direction,
                traffic: u32,
            ) -> Option<u32> {
                Rules::<$address>::lookup_anywhere(&PolicyTables, active, direction, traffic)
            }

            #[inline(always)]
            fn lookup_rule(
                &self,
                active: Active,
                direction: Direction,
                outside: $address,
                traffic: u32,
            ) -> Option<u32> {
                PolicyTables.lookup_rule(active, direction, outside, traffic)
            }
        }
    };
}

family!(
    V4,
    FlowKey4,
    FLOWS_LRU_V4,
    FLOWS_TCP_V4,
    FRAGMENTS_V4,
    KEPT_V4,
    SCRATCH_V4,
    sg_insert_v4,
    sg_remove_v4,
    sg_blocked_v4,
    sg_filter_v4
);
family!(
    V6,
    FlowKey6,
    FLOWS_LRU_V6,
    FLOWS_TCP_V6,
    FRAGMENTS_V6,
    KEPT_V6,
    SCRATCH_V6,
    sg_insert_v6,
    sg_remove_v6,
    blocked_v6,
    filter_v6
);

// A BPF function takes words, not an array.

#[inline(always)]
fn blocked_v6([first, second]: V6, bytes: u32) -> u32 {
    sg_blocked_v6(first, second, bytes)
}

#[inline(always)]
fn filter_v6(active: u64, query: u32, [first, second]: V6, bytes: u32) -> u64 {
    sg_filter_v6(active, query, first, second, bytes)
}

impl Segments for Kernel {
    #[inline(always)]
    fn update_segment(
        &self,
        flow: &FlowRef<'_>,
        segment: PackedSegment,
    ) -> Result<Transition, Reason> {
        let PackedSegment { numbers, extent, what } = segment;
        let word = match globals::tcp_checks() {
            TcpChecks::Guard => sg_segment(flow.record(), numbers, extent, what),
            TcpChecks::Strict => sg_segment_strict(flow.record(), numbers, extent, what),
        };
        segment::unpack(word)
    }
}

impl Sources for Kernel {
    #[inline(always)]
    fn max_per_source(&self) -> u32 {
        self.settings().max_per_source
    }

    #[inline(always)]
    fn admit_source(&self, source: u64) -> bool {
        sg_source(self.slot().into(), self.settings().max_per_source, source) != 0
    }

    #[inline(always)]
    fn release_source(&self, source: u64) {
        sg_source(self.slot().into(), 0, source);
    }
}

impl Dhcp for Kernel {
    #[inline(always)]
    fn track_dhcp(&self, direction: Direction, bytes: u32) -> bool {
        sg_dhcp(self.settings_index(), direction as u32, bytes) != 0
    }
}

impl Counts for Kernel {
    #[inline(always)]
    fn count_rule(&self, rule: u32, bytes: u32) {
        maps::count_rule(rule, bytes);
    }

    #[inline(always)]
    fn count_event(&self, event: Event) {
        maps::count_event(event_index(self.slot(), event));
    }
}
