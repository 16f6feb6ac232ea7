//! The maps of the kernel program, written and read as userspace does, but small.

pub(crate) mod bank;
mod deny;
mod flow_tables;

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::Path;

use aya::Pod;
use aya::maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues,
};
use aya::util::nr_cpus;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::bloom::Line;
use firewall_ebpf::abi::counter::{Counter, rule_stride, rule_stripes};
use firewall_ebpf::abi::event::{Event, event_index};
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6, Table, Tier};
use firewall_ebpf::abi::fragment::FirstFragment;
use firewall_ebpf::abi::policy::{Active, Class, Half, Page, index};
use firewall_ebpf::abi::reason::REASON_SPACE;
use firewall_ebpf::wire::address::Address as _;
use firewall_user::dataplane::Pins;
use firewall_user::policy::CompiledPolicy;

use self::bank::Bank;
use self::deny::Deny;
use self::flow_tables::{Family, clear_map, edit, entries};
use crate::bloom;
use crate::decision::counters::Counters;
use crate::decision::engine::{FlowId, FlowView, FlowViews, learned};
use crate::decision::host::SLOT;

/// Capacity of the table of proven TCP flows per family: small, because tests fill it.
pub const PROVEN: u32 = 128;
/// Capacity of the other tables per family. Far more than a test opens: an LRU map of the kernel evicts
/// in batches, long before it is full.
pub const NEW: u32 = 2048;
/// Interfaces: the one under test, and slot 0, whose counters must not change.
pub const INTERFACES: u32 = 2;
const COUNTERS: u32 = INTERFACES * 2 * REASON_SPACE;
const _: () = assert!(SLOT == 1);
/// Capacity of the counters by rule.
pub const RULES: u32 = 4096;
/// The number of times that the flows are cleared for each time that the Bloom filter is, because that
/// takes a millisecond.
const CLEARS_PER_BLOOM_CLEAR: u32 = 256;

/// The slot of flows that only fill a table.
const FILLER: u16 = u16::MAX;

/// First fragments as words; the last use is at [`SEEN`].
type Fragments<K> = HashMap<MapData, K, [u64; FRAGMENT_WORDS]>;
const FRAGMENT_WORDS: usize = size_of::<FirstFragment>() / size_of::<u64>();
const SEEN: usize = offset_of!(FirstFragment, seen) / size_of::<u64>();

/// The maps of the object that tests read or write.
pub struct Maps {
    counters: Counters,
    events: PerCpuArray<MapData, u64>,
    rule_indexes: HashMap<MapData, u32, u32>,
    rule_counters: Array<MapData, Counter>,
    active: Array<MapData, u64>,
    clock: Array<MapData, u64>,
    bloom: Array<MapData, Line>,
    v4: Family<FlowKey4>,
    v6: Family<FlowKey6>,
    fragments_v4: Fragments<FlowKey4>,
    fragments_v6: Fragments<FlowKey6>,
    banks: [Bank; 2],
    deny: Deny,
    /// The active policy's word, without filter and blocks.
    word: Active,
    /// Keeps the inner maps referenced.
    _outer: Outer,
    /// Number of policies so far: each is written to the next bank or half.
    policies: u32,
    /// Number of policies since the flows were cleared.
    generation: u32,
    /// How often the flows were cleared.
    clears: u32,
    audit: bool,
}

struct Outer {
    _v4: ArrayOfMaps<MapData, LpmTrie<MapData, [u8; 4], [u32; 2]>>,
    _v6: ArrayOfMaps<MapData, LpmTrie<MapData, [u8; 16], [u32; 2]>>,
    _classes: ArrayOfMaps<MapData, Array<MapData, [Class; 2]>>,
    _pages: ArrayOfMaps<MapData, Array<MapData, Page>>,
}

impl Outer {
    /// Puts the tables of a bank or filter in place.
    fn put(&mut self, at: u32, bank: &Bank) {
        self._v4.set(at, &bank.v4, 0).expect("put an IPv4 trie in place");
        self._v6.set(at, &bank.v6, 0).expect("put an IPv6 trie in place");
        self._classes.set(at, &bank.classes, 0).expect("put a class table in place");
        self._pages.set(at, &bank.pages, 0).expect("put pages of ranges in place");
    }
}

fn pinned(pin: &Path) -> MapData {
    MapData::from_pin(pin).unwrap_or_else(|error| panic!("open {}: {error}", pin.display()))
}

/// A map as its type.
fn take<T: TryFrom<Map, Error = MapError>>(pin: &Path, kind: fn(MapData) -> Map) -> T {
    let map = kind(pinned(pin));
    T::try_from(map).unwrap_or_else(|error| panic!("map {}: {error}", pin.display()))
}

impl Maps {
    /// Opens the maps of an instance and creates the inner maps of its slot's policies.
    pub fn new(pins: &Pins) -> Self {
        let outer = |name: &str| pins.map(name);
        let banks = [Bank::new(), Bank::new()];
        let mut outer = Outer {
            _v4: take(&outer("PREFIXES_V4"), Map::ArrayOfMaps),
            _v6: take(&outer("PREFIXES_V6"), Map::ArrayOfMaps),
            _classes: take(&outer("CLASSES"), Map::ArrayOfMaps),
            _pages: take(&outer("RANGES"), Map::ArrayOfMaps),
        };
        for (number, bank) in (0..).zip(&banks) {
            outer.put(index(SLOT, number), bank);
        }
        let deny = Deny::new(pins, &mut outer);
        Self {
            counters: Counters::new(Map::PerCpuArray(pinned(&pins.map("COUNTERS"))), COUNTERS),
            events: take(&pins.map("EVENTS"), Map::PerCpuArray),
            rule_indexes: take(&pins.map("RULE_INDEXES"), Map::HashMap),
            rule_counters: take(&pins.map("RULE_COUNTERS"), Map::Array),
            active: take(&pins.map("ACTIVE"), Map::Array),
            clock: take(&pins.map("CLOCK"), Map::Array),
            bloom: take(&pins.flows(SLOT, "BLOOM"), Map::Array),
            v4: Family {
                new: take(&pins.flows(SLOT, "NEW_V4"), Map::LruHashMap),
                udp: take(&pins.flows(SLOT, "UDP_V4"), Map::LruHashMap),
                tcp: take(&pins.flows(SLOT, "TCP_V4"), Map::HashMap),
            },
            v6: Family {
                new: take(&pins.flows(SLOT, "NEW_V6"), Map::LruHashMap),
                udp: take(&pins.flows(SLOT, "UDP_V6"), Map::LruHashMap),
                tcp: take(&pins.flows(SLOT, "TCP_V6"), Map::HashMap),
            },
            fragments_v4: take(&pins.flows(SLOT, "FRAGMENTS_V4"), Map::LruHashMap),
            fragments_v6: take(&pins.flows(SLOT, "FRAGMENTS_V6"), Map::LruHashMap),
            banks,
            deny,
            word: Active(0),
            _outer: outer,
            policies: 0,
            generation: 0,
            clears: 0,
            audit: false,
        }
    }

    /// Writes a policy into the inactive bank and activates it; `None` removes the active policy.
    pub fn activate(&mut self, policy: Option<&CompiledPolicy>) {
        let active = policy.map_or(Active(0), |policy| {
            self.policies += 1;
            let (bank, half) = (self.policies & 1, self.policies >> 1 & 1);
            self.banks[usize::from(bank == 1)].write(policy, half == 1);
            self.generation += 1;
            Active::new(Half { slot: SLOT, bank, half }, policy.has(), self.generation)
                .with_audit(self.audit)
        });
        self.word = active;
        self.write_active();
        // Creates the counters of the policy's rules; those of earlier rules stay, because flows
        // that these admitted refer to them.
        for rule in policy.into_iter().flat_map(CompiledPolicy::rules) {
            if self.rule_indexes.get(&rule, 0).is_err() {
                let index = self.rule_indexes.keys().count();
                let index = u32::try_from(index).expect("few rules");
                for stripe in stripes() {
                    let at = stripe + index;
                    self.rule_counters.set(at, Counter::default(), 0).expect("clear a counter");
                }
                self.rule_indexes.insert(rule, index, 0).expect("create a rule's counter");
            }
        }
    }

    /// Makes the policy active, with the present filter and blocks.
    fn write_active(&mut self) {
        let Self { word, deny, .. } = &*self;
        let word = word.with_filter(deny.filter()).with_blocks(deny.has_blocks());
        let word = if self.word.is_present() { word } else { Active(0) };
        self.active.set(u32::from(SLOT), word.0, 0).expect("write the active word");
    }

    /// Sets, for the next policies, whether drops are only counted.
    pub const fn set_audit(&mut self, audit: bool) {
        self.audit = audit;
    }

    /// Removes all flows.
    pub fn clear_flows(&mut self) {
        self.v4.clear();
        self.v6.clear();
        // Bits that stay make packets of unknown flows pass the filter.
        self.clears += 1;
        if self.clears.is_multiple_of(CLEARS_PER_BLOOM_CLEAR) {
            bloom::clear(&mut self.bloom).expect("clear the filter of flows");
        }
    }

    /// Removes all flows and fragments, and clears the counters that a case compares.
    pub fn clear(&mut self) {
        self.clear_flows();
        self.generation = 0;
        self.clear_deny();
        clear_map(&mut self.fragments_v4);
        clear_map(&mut self.fragments_v6);
        let rules: Vec<_> = self.rule_indexes.keys().map(|key| key.expect("list rules")).collect();
        for rule in rules {
            self.rule_indexes.remove(&rule).expect("remove a rule's counter");
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
        let entries = self.rule_indexes.iter().map(|entry| {
            let (rule, index) = entry.expect("list rules");
            (rule, self.sum(index))
        });
        let nonzero = entries.filter(|(_, counter)| *counter != Counter::default());
        nonzero.map(|(rule, counter)| (rule, (counter.packets, counter.bytes))).collect()
    }

    /// A counter by index, summed over its stripes.
    fn sum(&self, index: u32) -> Counter {
        let counters = stripes().map(|stripe| {
            self.rule_counters.get(&(stripe + index), 0).expect("read a rule's counter")
        });
        counters.fold(Counter::default(), |total, one| Counter {
            packets: total.packets + one.packets,
            bytes: total.bytes + one.bytes,
        })
    }

    /// The count of each event, without zeros.
    pub fn events(&self) -> BTreeMap<Event, u64> {
        let count = |event: Event| -> u64 {
            let values = self.events.get(&event_index(SLOT, event), 0).expect("read a counter");
            values.iter().sum()
        };
        let counts = Event::ALL.iter().map(|event| (*event, count(*event)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// The time that `sg_clock` wrote, in jiffies.
    pub fn clock(&self) -> u64 {
        self.clock.get(&0, 0).expect("read the clock")
    }

    /// Makes all flows and fragments older, which has the effect of a later clock.
    pub fn age(&mut self, jiffies: u64) {
        let low_half = u32::try_from(jiffies & u64::from(u32::MAX)).expect("32 bits");
        let older = |flow: &mut Flow| {
            flow.last_seen = flow.last_seen.saturating_sub(jiffies);
            flow.created = flow.created.wrapping_sub(low_half);
        };
        self.v4.edit(older);
        self.v6.edit(older);
        edit(&mut self.fragments_v4, |first| first[SEEN] = first[SEEN].saturating_sub(jiffies));
        edit(&mut self.fragments_v6, |first| first[SEEN] = first[SEEN].saturating_sub(jiffies));
    }

    /// Turns all flows into learned ones, which no rule admitted.
    pub fn learn_flows(&mut self) {
        let learn = |flow: &mut Flow| *flow = learned(flow);
        self.v4.edit(learn);
        self.v6.edit(learn);
    }

    /// Fills the tables of proven TCP flows, or removes the filling flows.
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

    /// The flows of all slots, except those of [`Maps::fill_proven`].
    pub fn flows(&self, now: u64, hz: u64) -> FlowViews {
        let mut all: BTreeMap<(Tier, FlowId), FlowView> = BTreeMap::new();
        for table in Table::ALL {
            let v4 =
                entries(self.v4.table(table)).into_iter().map(|(key, flow)| (key.into(), flow));
            let v6 =
                entries(self.v6.table(table)).into_iter().map(|(key, flow)| (key.into(), flow));
            let views = v4.chain(v6).filter(|(id, _): &(FlowId, Flow)| id.slot != FILLER);
            let tier = table.tier();
            all.extend(views.map(|(id, flow)| ((tier, id), FlowView::new(flow, now, hz))));
        }
        all
    }

    /// Moves all flows of the slot under test to another slot.
    pub fn move_flows_to_slot(&mut self, slot: u16) {
        let mut bits = self.v4.rekey(|key| FlowKey4 { slot, ..key }, V4::bit);
        bits.extend(self.v6.rekey(|key| FlowKey6 { slot, ..key }, V6::bit));
        bloom::set(&mut self.bloom, &bits).expect("write the filter of flows");
    }
}

/// The first counter by rule of each stripe.
fn stripes() -> impl Iterator<Item = u32> {
    let cpus = nr_cpus().unwrap_or_else(|(what, error)| panic!("{what}: {error}"));
    let stripes = rule_stripes(RULES, u32::try_from(cpus).expect("few CPUs"));
    (0..stripes).map(|stripe| stripe * rule_stride(RULES))
}

/// The zero of every CPU.
fn zeros<T: Pod + Default>() -> PerCpuValues<T> {
    let cpus = nr_cpus().unwrap_or_else(|(what, error)| panic!("{what}: {error}"));
    PerCpuValues::try_from(vec![T::default(); cpus]).expect("one value for each CPU")
}
