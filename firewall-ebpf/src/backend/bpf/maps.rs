//! The maps, and their counters and bits. Sizes here are defaults; the loader overrides them. Names are
//! those of `bpftool map`.

// `AtomicU64` has no additions here: the target has no compare-and-swap.
use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray,
};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::block::{BLOCK_BANKS, Blocking};
use firewall_ebpf::abi::bloom::{Bit, LINES, Line};
use firewall_ebpf::abi::counter::{Counter, counter_index};
use firewall_ebpf::abi::filter::{Filter, MAX_FILTERS, TABLE_SETS};
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6};
use firewall_ebpf::abi::fragment::FirstFragment;
use firewall_ebpf::abi::interface::{Direction, SLOW_PATH_PROGRAMS, Settings};
use firewall_ebpf::abi::policy::{Active, Class, Page};

use super::globals;

mod drops;
mod handed_over;

pub(super) use drops::{note_drop, set_watch, under_flood, watch};
pub(super) use handed_over::{call, decided, note_decider, set_call, set_decision, set_note};

/// Sufficient where the result is not used.
const RELAXED: AtomicOrdering = AtomicOrdering::Relaxed;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const INNER_MAP: usize = BPF_F_INNER_MAP as usize;
pub(super) const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

// Flows. The programs of an interface are loaded with its own tables of proven flows; the slow path finds
// all tables of an interface in the outer maps.

/// This interface's proven TCP flows.
#[btf_map]
pub(super) static OWN_TCP_V4: TcpTable<FlowKey4> = HashMap::new();
/// This interface's proven TCP flows.
#[btf_map]
pub(super) static OWN_TCP_V6: TcpTable<FlowKey6> = HashMap::new();
/// This interface's proven UDP flows.
#[btf_map]
pub(super) static OWN_UDP_V4: LruTable<FlowKey4> = LruHashMap::new();
/// This interface's proven UDP flows.
#[btf_map]
pub(super) static OWN_UDP_V6: LruTable<FlowKey6> = LruHashMap::new();

/// Unproven flows and proven UDP flows, by `Table::lru_index`.
#[btf_map]
pub(super) static FLOWS_LRU_V4: ArrayOfMaps<LruHashMap<FlowKey4, Inner<Flow>, 1>, 128> =
    ArrayOfMaps::new();
/// Unproven flows and proven UDP flows, by `Table::lru_index`.
#[btf_map]
pub(super) static FLOWS_LRU_V6: ArrayOfMaps<LruHashMap<FlowKey6, Inner<Flow>, 1>, 128> =
    ArrayOfMaps::new();
/// Proven TCP flows, by interface.
#[btf_map]
pub(super) static FLOWS_TCP_V4: ArrayOfMaps<HashMap<FlowKey4, Inner<Flow>, 1, NO_PREALLOC>, 64> =
    ArrayOfMaps::new();
/// Proven TCP flows, by interface.
#[btf_map]
pub(super) static FLOWS_TCP_V6: ArrayOfMaps<HashMap<FlowKey6, Inner<Flow>, 1, NO_PREALLOC>, 64> =
    ArrayOfMaps::new();
/// First fragments that passed, by interface and then by `fragment::fragment_key`.
#[btf_map]
pub(super) static FRAGMENTS_V4: ArrayOfMaps<FragmentTable<FlowKey4>, 64> = ArrayOfMaps::new();
/// First fragments that passed.
#[btf_map]
pub(super) static FRAGMENTS_V6: ArrayOfMaps<FragmentTable<FlowKey6>, 64> = ArrayOfMaps::new();

/// By interface, two Bloom filters over the keys of its flows: the one that packets use, and one that
/// userspace rebuilds; see `abi::bloom`.
#[btf_map]
pub(super) static BLOOM: ArrayOfMaps<Array<Line, { 2 * LINES as usize }>, 64> = ArrayOfMaps::new();
/// By interface, which of the two filters packets use.
#[btf_map]
pub(super) static BLOOM_IN_USE: Array<u32, 64> = Array::new();

/// By interface with a limit of flows per source: proven TCP flows by `Address::source`.
#[btf_map]
pub(super) static SOURCES: ArrayOfMaps<SourceTable, 64> = ArrayOfMaps::new();

type LruTable<K> = LruHashMap<K, Flow, 1>;
/// Not preallocated: the table of an interface with few connections takes little memory.
type TcpTable<K> = HashMap<K, Flow, 1, NO_PREALLOC>;
type FragmentTable<K> = LruHashMap<K, Inner<FirstFragment>, 1>;
pub(super) type SourceTable = LruHashMap<u64, u32, 1>;
/// The value of a map in an outer one. Linux before 6.2 remembers of a struct that it has no timer, and then
/// refuses inner maps without BTF, such as those that userspace creates (`timer_off` in `bpf_map_meta_equal`,
/// kernel/bpf/map_in_map.c); an array is not searched for one.
pub(super) type Inner<T> = [T; 1];

/// By `interface::settings_index`.
#[btf_map]
pub(super) static SETTINGS_OF: Array<Settings, 128> = Array::new();
/// The slow path at XDP, by `interface::slow_path_index`.
#[btf_map]
pub(super) static SLOW_XDP: ProgramArray<{ SLOW_PATH_PROGRAMS as usize }> = ProgramArray::new();
/// The slow path at TCX and clsact.
#[btf_map]
pub(super) static SLOW_TC: ProgramArray<{ SLOW_PATH_PROGRAMS as usize }> = ProgramArray::new();
/// By interface, direction and reason; see `counter_index`.
#[btf_map]
pub(super) static COUNTERS: PerCpuArray<Counter, 8192> = PerCpuArray::new();
/// By interface and event; see `event_index`.
#[btf_map]
pub(super) static EVENTS: PerCpuArray<u64, 512> = PerCpuArray::new();
/// By rule number: index of the rule's counter in each stripe. Userspace writes the entries, and gives an
/// index to one rule at a time.
#[btf_map]
pub(super) static RULE_INDEXES: HashMap<u32, u32, 131_072, NO_PREALLOC> = HashMap::new();
/// A stripe for each CPU (`abi::counter::rule_stripes`) of counters by index. Not a per-CPU map: the
/// kernel takes 1.6 s to create 100,000 counters in one, because it allocates each. Mapped into userspace,
/// which reads and clears many at once.
#[btf_map]
pub(super) static RULE_COUNTERS: Array<Counter, 131_072, MMAPABLE> = Array::new();

/// By interface: an `Active` word.
#[btf_map]
pub(super) static ACTIVE: Array<u64, 64> = Array::new();
/// By `TableSet::index`: class of a prefix, in either half.
#[btf_map]
pub(super) static PREFIXES_V4: ArrayOfMaps<Trie<V4>, SETS> = ArrayOfMaps::new();
/// By `TableSet::index`: class of a prefix, in either half.
#[btf_map]
pub(super) static PREFIXES_V6: ArrayOfMaps<Trie<V6>, SETS> = ArrayOfMaps::new();
/// By `TableSet::index`: class rows, of either half.
#[btf_map]
pub(super) static CLASSES: ArrayOfMaps<Array<[Class; 2], 1, INNER_MAP>, SETS> = ArrayOfMaps::new();
/// By `TableSet::index`: lists of ranges.
#[btf_map]
pub(super) static RANGES: ArrayOfMaps<Array<Page, 1, INNER_MAP>, SETS> = ArrayOfMaps::new();
/// By filter: a `Filter` word. Userspace writes it once the filter's tables are complete.
#[btf_map]
pub(super) static FILTERS: Array<u64, { MAX_FILTERS as usize }> = Array::new();
/// A `Blocking` word.
#[btf_map]
pub(super) static BLOCKING: Array<u64, 1> = Array::new();
/// By bank: the block in force for a prefix, in either half.
#[btf_map]
pub(super) static BLOCKS_V4: ArrayOfMaps<Trie<V4>, { BLOCK_BANKS as usize }> = ArrayOfMaps::new();
/// By bank: the block in force for a prefix, in either half.
#[btf_map]
pub(super) static BLOCKS_V6: ArrayOfMaps<Trie<V6>, { BLOCK_BANKS as usize }> = ArrayOfMaps::new();
/// By index of a counter: when the rule, entry or block ends, in nanoseconds of `CLOCK_BOOTTIME`; 0: never.
/// Read only of what is timed.
#[btf_map]
pub(super) static DEADLINES: Array<u64, 131_072> = Array::new();

const SETS: usize = TABLE_SETS as usize;

/// A flow and its key, for the BPF functions that insert and remove flows: as arguments they do not fit into
/// registers, and on the stack the flow would take a fifth of 512 bytes.
#[repr(C)]
pub(super) struct Scratch<K> {
    pub(super) key: K,
    pub(super) flow: Flow,
}

/// Buffer of this CPU.
#[btf_map]
pub(super) static SCRATCH_V4: PerCpuArray<Scratch<FlowKey4>, 1> = PerCpuArray::new();
/// Buffer of this CPU.
#[btf_map]
pub(super) static SCRATCH_V6: PerCpuArray<Scratch<FlowKey6>, 1> = PerCpuArray::new();

/// A first fragment and its key, while it is decided about: on the stack there is no room.
#[repr(C)]
pub(super) struct Kept<K> {
    pub(super) key: K,
    pub(super) first: Inner<FirstFragment>,
}

/// Buffer of this CPU.
#[btf_map]
pub(super) static KEPT_V4: PerCpuArray<Kept<FlowKey4>, 1> = PerCpuArray::new();
/// Buffer of this CPU.
#[btf_map]
pub(super) static KEPT_V6: PerCpuArray<Kept<FlowKey6>, 1> = PerCpuArray::new();

/// Jiffies, written by `sg_clock`.
#[btf_map]
pub(super) static CLOCK: Array<u64, 1> = Array::new();

type Trie<A> = LpmTrie<A, [u32; 2], 1>;

/// Whether an interface's filter in use has a bit; `true` if it cannot be read.
#[inline(always)]
pub(super) fn bloom_may_contain(slot: u32, bit: Bit) -> bool {
    let in_use = BLOOM_IN_USE.get(slot).copied().unwrap_or(0);
    let Some(line) = BLOOM.get_value_ptr_mut(slot, &bit.line(in_use)) else { return true };
    // SAFETY: within the line. Other CPUs set bits of the word with whole-word operations.
    unsafe { (&raw const (*line)[bit.word()]).read_volatile() & bit.mask() != 0 }
}

/// Sets a bit in both filters of an interface.
#[inline(always)]
pub(super) fn bloom_insert(slot: u32, bit: Bit) {
    let Some(filters) = BLOOM.get(slot) else { return };
    for filter in 0..2 {
        let Some(line) = filters.get_ptr_mut(bit.line(filter)) else { return };
        // SAFETY: as above, and every CPU only sets bits. Userspace clears only the filter that is
        // not in use, and waits for a grace period before it relies on the bits.
        unsafe {
            let word = &raw mut (*line)[bit.word()];
            if word.read_volatile() & bit.mask() == 0 {
                atomic_or::<u64, u64, RELAXED>(word, bit.mask());
            }
        }
    }
}

/// Counts one proven TCP flow more for a source that has fewer than `limit`, and returns whether it had; with a
/// limit of 0 counts one fewer.
///
/// CPUs race here, because the target has no compare-and-swap: all that find the last free place at once
/// take it, and all that release the last flow do. So a source can exceed its limit by the number of CPUs, and
/// a count can fall below zero, which is why it is read as a signed number. A table that is full evicts the
/// count of a source that was not used recently, and an entry may then be another source's when it is
/// written. `gc` writes what the tables of flows hold.
#[inline(always)]
pub(super) fn change_source(table: &SourceTable, source: &u64, limit: u32) -> bool {
    if let Some(count) = table.get_ptr_mut(source) {
        // SAFETY: an entry of a preallocated table, which stays readable and writable; see above.
        let before = unsafe { count.read_volatile() }.cast_signed();
        if limit == 0 {
            if before > 0 {
                // SAFETY: as above, and aligned.
                unsafe { atomic_xadd::<u32, u32, RELAXED>(count, u32::MAX) };
            }
            return true;
        }
        if before >= limit.cast_signed() {
            return false;
        }
        // SAFETY: as above.
        unsafe { atomic_xadd::<u32, u32, RELAXED>(count, 1) };
        return true;
    }
    if limit != 0 {
        // Another CPU may insert it first, and then one flow is not counted.
        let _ = table.insert(source, 1, BPF_NOEXIST.into());
    }
    true
}

/// The word of an interface's active policy.
#[inline(always)]
pub(super) fn active(slot: u16) -> Active {
    // One aligned 64-bit load: `sg_set_active` stores the word with one store.
    Active(ACTIVE.get(u32::from(slot)).copied().unwrap_or(0))
}

/// Counts a packet by its reason; returns the reason's number.
#[inline(always)]
pub(super) fn count_reason(slot: u16, direction: Direction, reason: u32, bytes: u32) -> u32 {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(slot, direction, reason)) {
        add(counter, bytes);
    }
    reason
}

/// The word of a filter.
#[inline(always)]
pub(super) fn filter(active: Active) -> Filter {
    // One aligned load; the number of a filter in use keeps its word.
    Filter(FILTERS.get(active.filter().unwrap_or(0).into()).copied().unwrap_or(0))
}

/// The word of the blocks of the host.
#[inline(always)]
pub(super) fn blocking() -> Blocking {
    // One aligned load: `sg_set_active` stores the word with one store.
    Blocking(BLOCKING.get(0).copied().unwrap_or(0))
}

/// Whether what has this counter has ended.
#[inline(always)]
pub(super) fn has_ended(counter: u32) -> bool {
    let end = DEADLINES.get(counter).copied().unwrap_or(0);
    // SAFETY: the helper takes no argument and has no effect.
    end != 0 && unsafe { bpf_ktime_get_boot_ns() } >= end
}

/// The index of a rule's counter.
#[inline(always)]
pub(super) fn rule_index(rule: u32) -> Option<u32> {
    let index = RULE_INDEXES.get_ptr(rule)?;
    // SAFETY: the entry stays readable until the program ends (RCU); userspace replaces it as a whole
    // word. Where the rule is removed meanwhile, the packet is counted at an index that has no rule: a
    // later command that gives the index to another rule clears the counter first. So does it with the
    // end that it writes there: at worst one packet meets the end of the other rule.
    Some(unsafe { index.read_volatile() })
}

/// Adds one packet to a rule's counter.
#[inline(always)]
pub(super) fn count_rule(rule: u32, bytes: u32) {
    if let Some(index) = rule_index(rule) {
        count_entry(index, bytes);
    }
}

/// Adds one packet to the counter of a rule, entry or block, in the stripe of this CPU.
#[inline(always)]
pub(super) fn count_entry(index: u32, bytes: u32) {
    // SAFETY: the helper has no arguments and cannot fail.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counter) = RULE_COUNTERS.get_ptr_mut(globals::rule_stripe(cpu) + index) {
        // SAFETY: the words of an array's entry live as long as the map. CPUs that share a stripe, and
        // programs that interrupt each other on a CPU, only add to them atomically; on a cache line
        // that no other CPU writes, that takes no longer than a few additions.
        unsafe {
            atomic_xadd::<u64, u64, RELAXED>(&raw mut (*counter).packets, 1);
            atomic_xadd::<u64, u64, RELAXED>(&raw mut (*counter).bytes, u64::from(bytes));
        }
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
    // SAFETY: the record is this CPU's, and BPF programs of one hook do not interrupt each other on a
    // CPU. A transmit that a receive causes runs after the receive program, not within it; if it did,
    // one packet would not be counted.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += u64::from(bytes);
    }
}
