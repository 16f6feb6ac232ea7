//! The kernel program's maps, filled and read as userspace does it, but small and unshared.

use std::collections::BTreeMap;
use std::mem::offset_of;

use aya::maps::lpm_trie::Key;
use aya::maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues,
};
use aya::util::nr_cpus;
use aya::{Ebpf, Pod};
use firewall_ebpf::bloom::{Bit, Line};
use firewall_ebpf::event::{Event, event_index};
use firewall_ebpf::flow::{Address as _, Flow, FlowKey4, FlowKey6, Tier};
use firewall_ebpf::fragment::FirstFragment;
use firewall_ebpf::parse::{V4, V6};
use firewall_ebpf::policy::{ANY_V4, ANY_V6, Active, Class, Counter, Half, Page, index};
use firewall_ebpf::prefix::Prefix;
use firewall_ebpf::reason::REASON_SPACE;
use firewall_user::policy::CompiledPolicy;

use crate::bloom;
use crate::decision::counters::Counters;
use crate::decision::engine::{FlowId, FlowView, FlowViews};
use crate::decision::host::SLOT;

/// Flows of one family that the proven tier has room for: few, because tests fill it up.
pub const PROVEN: u32 = 128;
/// Flows of one family that the new tier has room for. Far more than a test opens: an LRU of the
/// kernel evicts in batches, long before the last place is taken.
pub const NEW: u32 = 2048;
/// Counters for two slots: the one under test and its neighbour, which must never move.
pub const COUNTERS: u32 = 2 * 2 * REASON_SPACE;
const _: () = assert!(SLOT == 1);
/// Rules that are counted.
pub const RULES: u32 = 4096;
/// Room in the inner maps.
const CLASSES: u32 = 1 << 13;
const PAGES: u32 = 1 << 8;

/// Linux: the array may be replaced by one of another size.
const BPF_F_INNER_MAP: u32 = 1 << 12;
/// Linux: required for tries.
const BPF_F_NO_PREALLOC: u32 = 1;
/// Linux: only if the key is there.
const BPF_EXIST: u64 = 2;

/// How often flows are forgotten before their bits are: that takes a millisecond.
const BLOOM_LASTS: u32 = 256;

/// The slot of flows that only take up room.
const FILLER: u16 = u16::MAX;

/// One bank of a slot. Made once and rewritten in place: nothing reads it meanwhile here, and a
/// new inner map costs tens of milliseconds, because the kernel waits for its readers.
struct Bank {
    v4: LpmTrie<MapData, [u8; 4], [u32; 2]>,
    v6: LpmTrie<MapData, [u8; 16], [u32; 2]>,
    classes: Array<MapData, [Class; 2]>,
    pages: Array<MapData, Page>,
    written: CompiledPolicy,
}

/// Both tiers of one family.
struct Family<K: Pod> {
    new: HashMap<MapData, K, Flow>,
    proven: HashMap<MapData, K, Flow>,
}

/// First fragments as words; their times are at [`SEEN`].
type Fragments<K> = HashMap<MapData, K, [u64; FRAGMENT_WORDS]>;
const FRAGMENT_WORDS: usize = size_of::<FirstFragment>() / size_of::<u64>();
const SEEN: usize = offset_of!(FirstFragment, seen) / size_of::<u64>();

/// Every map of the object that a test reads or writes.
pub struct Maps {
    counters: Counters,
    events: PerCpuArray<MapData, u64>,
    rules: HashMap<MapData, u32, Counter>,
    active: Array<MapData, u64>,
    clock: Array<MapData, u64>,
    bloom: Array<MapData, Line>,
    v4: Family<FlowKey4>,
    v6: Family<FlowKey6>,
    fragments_v4: Fragments<FlowKey4>,
    fragments_v6: Fragments<FlowKey6>,
    banks: [Bank; 2],
    /// Held because the kernel drops the inner maps with it.
    _outer: Outer,
    /// Policies so far: each one goes to another bank and half.
    policies: u32,
    /// Policies since the flows were forgotten.
    generation: u32,
    /// How often the flows were forgotten.
    forgotten: u32,
    audit: bool,
}

struct Outer {
    _v4: ArrayOfMaps<MapData, LpmTrie<MapData, [u8; 4], [u32; 2]>>,
    _v6: ArrayOfMaps<MapData, LpmTrie<MapData, [u8; 16], [u32; 2]>>,
    _classes: ArrayOfMaps<MapData, Array<MapData, [Class; 2]>>,
    _pages: ArrayOfMaps<MapData, Array<MapData, Page>>,
}

fn taken(ebpf: &mut Ebpf, name: &str) -> Map {
    ebpf.take_map(name).unwrap_or_else(|| panic!("the object has no map {name}"))
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> T {
    T::try_from(taken(ebpf, name)).unwrap_or_else(|error| panic!("map {name}: {error}"))
}

impl Maps {
    /// Takes the maps of a loaded object and gives its slot inner maps.
    pub fn new(ebpf: &mut Ebpf) -> Self {
        let banks = [Bank::new(), Bank::new()];
        let mut outer = Outer {
            _v4: take(ebpf, "PREFIXES_V4"),
            _v6: take(ebpf, "PREFIXES_V6"),
            _classes: take(ebpf, "CLASSES"),
            _pages: take(ebpf, "RANGES"),
        };
        for (number, bank) in (0..).zip(&banks) {
            let at = index(SLOT, number);
            outer._v4.set(at, &bank.v4, 0).expect("put an IPv4 trie in place");
            outer._v6.set(at, &bank.v6, 0).expect("put an IPv6 trie in place");
            outer._classes.set(at, &bank.classes, 0).expect("put a class table in place");
            outer._pages.set(at, &bank.pages, 0).expect("put pages of ranges in place");
        }
        Self {
            counters: Counters::new(taken(ebpf, "COUNTERS"), COUNTERS),
            events: take(ebpf, "EVENTS"),
            rules: take(ebpf, "RULE_COUNTERS"),
            active: take(ebpf, "ACTIVE"),
            clock: take(ebpf, "CLOCK"),
            bloom: take(ebpf, "BLOOM"),
            v4: Family { new: take(ebpf, "FLOWS_NEW_V4"), proven: take(ebpf, "FLOWS_PROVEN_V4") },
            v6: Family { new: take(ebpf, "FLOWS_NEW_V6"), proven: take(ebpf, "FLOWS_PROVEN_V6") },
            fragments_v4: take(ebpf, "FRAGMENTS_V4"),
            fragments_v6: take(ebpf, "FRAGMENTS_V6"),
            banks,
            _outer: outer,
            policies: 0,
            generation: 0,
            forgotten: 0,
            audit: false,
        }
    }

    /// Writes a policy into the bank that is not in use and makes it the one in force; without a
    /// policy there is none from now on.
    pub fn activate(&mut self, policy: Option<&CompiledPolicy>) {
        let word = policy.map_or(Active(0), |policy| {
            self.policies += 1;
            let (bank, half) = (self.policies & 1, self.policies >> 1 & 1);
            self.banks[usize::from(bank == 1)].write(policy, half == 1);
            self.generation += 1;
            Active::new(Half { slot: SLOT, bank, half }, policy.has(), self.generation)
                .with_audit(self.audit)
        });
        self.active.set(u32::from(SLOT), word.0, 0).expect("write the active word");
        // Counters by rule exist from the moment the rule does; those of earlier rules stay, as
        // they do for flows that earlier rules admitted.
        for rule in policy.into_iter().flat_map(CompiledPolicy::rules) {
            if self.rules.get(&rule, 0).is_err() {
                self.rules.insert(rule, Counter::default(), 0).expect("make a rule's counter");
            }
        }
    }

    /// From the next policy on, drops are only counted, or made.
    pub const fn set_audit(&mut self, audit: bool) {
        self.audit = audit;
    }

    /// Forgets every flow.
    pub fn clear_flows(&mut self) {
        self.v4.clear();
        self.v6.clear();
        // Else it would some day take every stranger for a flow's packet.
        self.forgotten += 1;
        if self.forgotten.is_multiple_of(BLOOM_LASTS) {
            bloom::clear(&mut self.bloom).expect("clear the filter of flows");
        }
    }

    /// Forgets every flow and every count that a case compares.
    pub fn clear(&mut self) {
        self.clear_flows();
        self.generation = 0;
        forget(&mut self.fragments_v4);
        forget(&mut self.fragments_v6);
        let rules: Vec<u32> = self.rules.keys().map(|key| key.expect("list rules")).collect();
        for rule in rules {
            self.rules.remove(&rule).expect("forget a rule's counter");
        }
        for event in Event::ALL {
            self.events.set(event_index(SLOT, *event), zeros(), 0).expect("clear a counter");
        }
    }

    /// All counters by reason, summed over the CPUs.
    pub fn counters(&self) -> Vec<Counter> {
        self.counters.read()
    }

    /// Packets and bytes by rule, without rules that admitted nothing.
    pub fn rules(&self) -> BTreeMap<u32, (u64, u64)> {
        let entries = self.rules.iter().map(|entry| entry.expect("read a rule's counter"));
        let moved = entries.filter(|(_, counter)| *counter != Counter::default());
        moved.map(|(rule, counter)| (rule, (counter.packets, counter.bytes))).collect()
    }

    /// How often each event happened, without those that never did.
    pub fn events(&self) -> BTreeMap<Event, u64> {
        let count = |event: Event| -> u64 {
            let values = self.events.get(&event_index(SLOT, event), 0).expect("read a counter");
            values.iter().sum()
        };
        let counts = Event::ALL.iter().map(|event| (*event, count(*event)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// What `sg_clock` wrote.
    pub fn clock(&self) -> u64 {
        self.clock.get(&0, 0).expect("read the clock")
    }

    /// Makes every flow and fragment older: the same as a later clock, which only a test can have.
    pub fn age(&mut self, jiffies: u64) {
        let older = |flow: &mut Flow| flow.last_seen = flow.last_seen.saturating_sub(jiffies);
        self.v4.edit(older);
        self.v6.edit(older);
        edit(&mut self.fragments_v4, |first| first[SEEN] = first[SEEN].saturating_sub(jiffies));
        edit(&mut self.fragments_v6, |first| first[SEEN] = first[SEEN].saturating_sub(jiffies));
    }

    /// Makes every flow one that no rule let in.
    pub fn learn_flows(&mut self) {
        let learn = |flow: &mut Flow| flow.rule = 0;
        self.v4.edit(learn);
        self.v6.edit(learn);
    }

    /// Leaves no room in the proven tier, or makes it again.
    pub fn fill_proven(&mut self, full: bool) {
        self.v4.fill(full, |port| FlowKey4 {
            slot: FILLER,
            inside_port: port,
            ..FlowKey4::default()
        });
        self.v6.fill(full, |port| FlowKey6 {
            slot: FILLER,
            inside_port: port,
            ..FlowKey6::default()
        });
    }

    /// Every flow of every slot, but those that only take up room.
    pub fn flows(&self, now: u64, hz: u64) -> FlowViews {
        let mut all: BTreeMap<(Tier, FlowId), FlowView> = BTreeMap::new();
        for tier in Tier::ALL {
            let v4 = entries(self.v4.tier(tier)).into_iter().map(|(key, flow)| (key.into(), flow));
            let v6 = entries(self.v6.tier(tier)).into_iter().map(|(key, flow)| (key.into(), flow));
            let views = v4.chain(v6).filter(|(id, _): &(FlowId, Flow)| id.slot != FILLER);
            all.extend(views.map(|(id, flow)| ((tier, id), FlowView::new(flow, now, hz))));
        }
        all
    }

    /// Hands every flow of the slot under test to another slot.
    pub fn give_flows_to(&mut self, slot: u16) {
        let mut bits = self.v4.rekey(|key| FlowKey4 { slot, ..key }, V4::bit);
        bits.extend(self.v6.rekey(|key| FlowKey6 { slot, ..key }, V6::bit));
        bloom::set(&mut self.bloom, &bits).expect("write the filter of flows");
    }
}

impl Bank {
    fn new() -> Self {
        let made = |what: &str, error: MapError| -> ! { panic!("create {what}: {error}") };
        Self {
            v4: LpmTrie::create(CLASSES, BPF_F_NO_PREALLOC).unwrap_or_else(|e| made("a trie", e)),
            v6: LpmTrie::create(CLASSES, BPF_F_NO_PREALLOC).unwrap_or_else(|e| made("a trie", e)),
            classes: Array::create(CLASSES, BPF_F_INNER_MAP)
                .unwrap_or_else(|e| made("class rows", e)),
            pages: Array::create(PAGES, BPF_F_INNER_MAP)
                .unwrap_or_else(|e| made("pages of ranges", e)),
            written: CompiledPolicy::default(),
        }
    }

    /// Writes a policy into one half; the other half is what must not be looked at.
    fn write(&mut self, policy: &CompiledPolicy, in_second: bool) {
        fn halves<T>(in_second: bool, right: T, wrong: T) -> [T; 2] {
            if in_second { [wrong, right] } else { [right, wrong] }
        }
        for prefix in self.written.prefixes_v4.keys() {
            self.v4.remove(&key(prefix)).expect("remove a prefix");
        }
        for prefix in self.written.prefixes_v6.keys() {
            self.v6.remove(&key(prefix)).expect("remove a prefix");
        }
        for (prefix, class) in &policy.prefixes_v4 {
            let classes = halves(in_second, *class, ANY_V6);
            self.v4.insert(&key(prefix), classes, 0).expect("insert a prefix");
        }
        for (prefix, class) in &policy.prefixes_v6 {
            let classes = halves(in_second, *class, ANY_V4);
            self.v6.insert(&key(prefix), classes, 0).expect("insert a prefix");
        }
        let (arena, rows) = policy.lay_out();
        for (at, row) in (0..).zip(rows) {
            let rows = halves(in_second, row, Class::EMPTY);
            self.classes.set(at, rows, 0).expect("write a class row");
        }
        for (at, page) in (0..).zip(arena.pages) {
            self.pages.set(at, page, 0).expect("write a page of ranges");
        }
        self.written = policy.clone();
    }
}

fn key<const N: usize>(prefix: &Prefix<N>) -> Key<[u8; N]> {
    Key::new(u32::from(prefix.length()), prefix.octets())
}

impl<K: Pod> Family<K> {
    const fn tier(&self, tier: Tier) -> &HashMap<MapData, K, Flow> {
        match tier {
            Tier::New => &self.new,
            Tier::Proven => &self.proven,
        }
    }

    fn clear(&mut self) {
        for map in [&mut self.new, &mut self.proven] {
            forget(map);
        }
    }

    fn edit(&mut self, change: impl Fn(&mut Flow)) {
        for map in [&mut self.new, &mut self.proven] {
            edit(map, &change);
        }
    }

    fn rekey(&mut self, other: impl Fn(K) -> K, bit: impl Fn(&K) -> Bit) -> Vec<Bit> {
        let mut bits = Vec::new();
        for map in [&mut self.new, &mut self.proven] {
            for (key, flow) in entries(map) {
                map.remove(&key).expect("remove a flow");
                map.insert(other(key), flow, 0).expect("insert a flow");
                bits.push(bit(&other(key)));
            }
        }
        bits
    }

    fn fill(&mut self, full: bool, filler: impl Fn(u16) -> K) {
        for port in 0.. {
            let key = filler(port);
            let done = if full {
                self.proven.insert(key, Flow::default(), 0)
            } else {
                self.proven.remove(&key)
            };
            if done.is_err() {
                return;
            }
        }
    }
}

fn entries<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> Vec<(K, V)> {
    map.iter().map(|entry| entry.expect("read a map")).collect()
}

fn forget<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) {
    for (key, _) in entries(map) {
        map.remove(&key).expect("empty a map");
    }
}

fn edit<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, change: impl Fn(&mut V)) {
    for (key, mut value) in entries(map) {
        change(&mut value);
        map.insert(key, value, BPF_EXIST).expect("change an entry");
    }
}

/// The zero of every CPU.
fn zeros<T: Pod + Default>() -> PerCpuValues<T> {
    let cpus = nr_cpus().unwrap_or_else(|(what, error)| panic!("{what}: {error}"));
    PerCpuValues::try_from(vec![T::default(); cpus]).expect("one value for each CPU")
}
