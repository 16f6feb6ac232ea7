//! The maps, and counting in those that are counted in. Sizes here are defaults; the loader overrides
//! them. Names show up in `bpftool map`.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap,
};
use aya_ebpf::macros::btf_map;
use firewall_ebpf::flow::{Flow, FlowKey4, FlowKey6};
use firewall_ebpf::fragment::FirstFragment;
use firewall_ebpf::parse::{V4, V6};
use firewall_ebpf::policy::{Class, Counter, Range};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const INNER_MAP: usize = BPF_F_INNER_MAP as usize;

/// Unproven flows.
#[btf_map]
pub(super) static FLOWS_NEW_V4: LruHashMap<FlowKey4, Flow, 131_072> = LruHashMap::new();
/// Unproven flows.
#[btf_map]
pub(super) static FLOWS_NEW_V6: LruHashMap<FlowKey6, Flow, 131_072> = LruHashMap::new();
/// Proven flows; preallocated, so that an insert never waits for memory.
#[btf_map]
pub(super) static FLOWS_PROVEN_V4: HashMap<FlowKey4, Flow, 262_144> = HashMap::new();
/// Proven flows.
#[btf_map]
pub(super) static FLOWS_PROVEN_V6: HashMap<FlowKey6, Flow, 262_144> = HashMap::new();

/// First fragments that passed, by `fragment::key`.
#[btf_map]
pub(super) static FRAGMENTS_V4: LruHashMap<FlowKey4, FirstFragment, 8192> = LruHashMap::new();
/// First fragments that passed.
#[btf_map]
pub(super) static FRAGMENTS_V6: LruHashMap<FlowKey6, FirstFragment, 8192> = LruHashMap::new();

/// By interface, direction and reason; see `counter_index`.
#[btf_map]
pub(super) static COUNTERS: PerCpuArray<Counter, 8192> = PerCpuArray::new();
/// By interface and event; see `event_index`.
#[btf_map]
pub(super) static EVENTS: PerCpuArray<u64, 512> = PerCpuArray::new();
/// By rule number. Userspace makes the entries; memory is that of the rules there are.
#[btf_map]
pub(super) static RULE_COUNTERS: PerCpuHashMap<u32, Counter, 131_072, NO_PREALLOC> =
    PerCpuHashMap::new();

/// By interface: an `Active` word.
#[btf_map]
pub(super) static ACTIVE: Array<u64, 64> = Array::new();
/// By interface and half: class of a prefix.
#[btf_map]
pub(super) static PREFIXES_V4: ArrayOfMaps<Trie<V4>, 128> = ArrayOfMaps::new();
/// By interface and half: class of a prefix.
#[btf_map]
pub(super) static PREFIXES_V6: ArrayOfMaps<Trie<V6>, 128> = ArrayOfMaps::new();
/// By interface and half: class rows.
#[btf_map]
pub(super) static CLASSES: ArrayOfMaps<Rows<Class>, 128> = ArrayOfMaps::new();
/// By interface and half: port ranges.
#[btf_map]
pub(super) static RANGES: ArrayOfMaps<Rows<Range>, 128> = ArrayOfMaps::new();

/// Jiffies, written by `sg_clock`.
#[btf_map]
pub(super) static CLOCK: Array<u64, 1> = Array::new();

type Trie<A> = LpmTrie<A, u32, 1>;
/// Userspace makes these tables without BTF. Linux 6.1 takes them for others than the template if that
/// has a struct for its value, because it looks into structs for timers: hence a union.
type Rows<T> = Array<MaybeUninit<T>, 1, INNER_MAP>;

/// Adds one packet to a counter by reason.
#[inline(always)]
pub(super) fn count(index: u32, bytes: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        add(counter, bytes);
    }
}

/// Adds one packet to a rule's counter.
#[inline(always)]
pub(super) fn count_rule(rule: u32, bytes: u32) {
    if let Some(counter) = RULE_COUNTERS.get_ptr_mut(rule) {
        add(counter, bytes);
    }
}

/// Adds one to the counter of an event.
#[inline(always)]
pub(super) fn count_event(index: u32) {
    if let Some(count) = EVENTS.get_ptr_mut(index) {
        // SAFETY: as in `add`.
        unsafe { *count += 1 };
    }
}

#[inline(always)]
fn add(counter: *mut Counter, bytes: u32) {
    // SAFETY: the record is this CPU's own, and BPF programs of one hook do not interrupt each
    // other on a CPU. A transmit that a receive sets off runs after it, not within it; were it to
    // run within, one of the two would be counted once less.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += u64::from(bytes);
    }
}
