//! The maps, and their counters and bits. Sizes here are defaults; the loader overrides them. Names are
//! those of `bpftool map`.

// `AtomicU64` has no additions here: the target has no compare-and-swap.
use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::bloom::{Bit, LINES, Line};
use firewall_ebpf::abi::counter::{Counter, counter_index};
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6};
use firewall_ebpf::abi::fragment::FirstFragment;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{Class, Page};

use super::globals;

/// Sufficient where the result is not used.
const RELAXED: AtomicOrdering = AtomicOrdering::Relaxed;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const INNER_MAP: usize = BPF_F_INNER_MAP as usize;
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// Unproven flows.
#[btf_map]
pub(super) static FLOWS_NEW_V4: LruHashMap<FlowKey4, Flow, 131_072> = LruHashMap::new();
/// Unproven flows.
#[btf_map]
pub(super) static FLOWS_NEW_V6: LruHashMap<FlowKey6, Flow, 131_072> = LruHashMap::new();
/// Proven flows; preallocated, so that an insert never fails for lack of memory.
#[btf_map]
pub(super) static FLOWS_PROVEN_V4: HashMap<FlowKey4, Flow, 262_144> = HashMap::new();
/// Proven flows.
#[btf_map]
pub(super) static FLOWS_PROVEN_V6: HashMap<FlowKey6, Flow, 262_144> = HashMap::new();

/// Two Bloom filters over the keys of all flows: the one that packets use, and one that userspace
/// rebuilds; see `abi::bloom`.
#[btf_map]
pub(super) static BLOOM: Array<Line, { 2 * LINES as usize }> = Array::new();
/// Which of the two filters packets use.
#[btf_map]
pub(super) static BLOOM_IN_USE: Array<u32, 1> = Array::new();

/// First fragments that passed, by `fragment::fragment_key`.
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
/// By interface and bank: class of a prefix, in either half.
#[btf_map]
pub(super) static PREFIXES_V4: ArrayOfMaps<Trie<V4>, 128> = ArrayOfMaps::new();
/// By interface and bank: class of a prefix, in either half.
#[btf_map]
pub(super) static PREFIXES_V6: ArrayOfMaps<Trie<V6>, 128> = ArrayOfMaps::new();
/// By interface and bank: class rows, of either half.
#[btf_map]
pub(super) static CLASSES: ArrayOfMaps<Array<[Class; 2], 1, INNER_MAP>, 128> = ArrayOfMaps::new();
/// By interface and bank: lists of ranges.
#[btf_map]
pub(super) static RANGES: ArrayOfMaps<Array<Page, 1, INNER_MAP>, 128> = ArrayOfMaps::new();

/// Buffer for a flow that is inserted: on the stack it would take a fifth of 512 bytes.
#[btf_map]
pub(super) static SCRATCH: PerCpuArray<Flow, 1> = PerCpuArray::new();

/// Jiffies, written by `sg_clock`.
#[btf_map]
pub(super) static CLOCK: Array<u64, 1> = Array::new();

type Trie<A> = LpmTrie<A, [u32; 2], 1>;

/// Whether the filter in use has a bit; `true` if it cannot be read.
#[inline(always)]
pub(super) fn bloom_may_contain(bit: Bit) -> bool {
    let in_use = BLOOM_IN_USE.get(0).copied().unwrap_or(0);
    let Some(line) = BLOOM.get_ptr(bit.line(in_use)) else { return true };
    // SAFETY: within the line. Other CPUs set bits of the word with whole-word operations.
    unsafe { (&raw const (*line)[bit.word()]).read_volatile() & bit.mask() != 0 }
}

/// Sets a bit in both filters.
#[inline(always)]
pub(super) fn bloom_insert(bit: Bit) {
    for filter in 0..2 {
        let Some(line) = BLOOM.get_ptr_mut(bit.line(filter)) else { return };
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

/// Counts a packet by its reason; returns the reason's number.
#[inline(always)]
pub(super) fn count_reason(direction: Direction, reason: u32, bytes: u32) -> u32 {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(globals::slot(), direction, reason)) {
        add(counter, bytes);
    }
    reason
}

/// Adds one packet to a rule's counter, in the stripe of this CPU.
#[inline(always)]
pub(super) fn count_rule(rule: u32, bytes: u32) {
    let Some(index) = RULE_INDEXES.get_ptr(rule) else { return };
    // SAFETY: the entry stays readable until the program ends (RCU); userspace replaces it as a whole
    // word. Where the rule is removed meanwhile, the packet is counted at an index that has no rule: a
    // later command that gives the index to another rule clears the counter first.
    let index = unsafe { index.read_volatile() };
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
