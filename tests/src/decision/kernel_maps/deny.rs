//! Filters and blocks in the maps, and when they and rules end.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, ArrayOfMaps, LpmTrie, Map, MapData};
use firewall_ebpf::abi::block::Blocking;
use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::filter::{self, MAX_FILTERS, entry_number, filter_index};
use firewall_user::dataplane::Pins;
use firewall_user::policy::CompiledPolicy;
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};

use super::bank::Bank;
use super::{Maps, Outer, stripes, take};
use crate::decision::deny::{BLOCKS, Blocks, END, ENTRIES, Ends, Filter};
use crate::decision::host::padded_end;

/// The numbers that filters take turns with: not the first, so that code that ignores them fails.
const FILTERS: [u16; 2] = [(MAX_FILTERS / 2 + 1) as u16, (MAX_FILTERS - 1) as u16];
/// Networks that are blocked.
const BLOCKED: u32 = 1 << 12;
/// Linux: required for tries.
const BPF_F_NO_PREALLOC: u32 = 1;
/// A word in the half that programs must not read.
const WRONG: u32 = entry_number(END - 1);

type Trie<const N: usize> = LpmTrie<MapData, [u8; N], [u32; 2]>;

/// What denies packets, beside the rules.
pub(super) struct Deny {
    deadlines: Array<MapData, u64>,
    filters: Array<MapData, u64>,
    blocking: Array<MapData, u64>,
    banks: [Bank; 2],
    v4: [Trie<4>; 2],
    v6: [Trie<16>; 2],
    /// Keeps the inner maps referenced.
    _outer: (ArrayOfMaps<MapData, Trie<4>>, ArrayOfMaps<MapData, Trie<16>>),
    /// The filter, and its number.
    filter: Option<(CompiledPolicy, u16)>,
    /// How many filters were written.
    count: usize,
    /// The filters since the flows were cleared: the place of one is its generation.
    seen: Vec<CompiledPolicy>,
    blocked: BTreeMap<IpNet, u32>,
    /// How often the blocks were replaced.
    replaced: u32,
    /// The deadlines that are set.
    ends: BTreeMap<u32, u64>,
    /// Whether any entry can have been counted.
    is_used: bool,
}

impl Deny {
    pub(super) fn new(pins: &Pins, outer: &mut Outer) -> Self {
        let banks = [Bank::new(), Bank::new()];
        for (number, bank) in FILTERS.into_iter().zip(&banks) {
            outer.put(filter_index(number), bank);
        }
        let v4 = [0, 1].map(|_| LpmTrie::create(BLOCKED, BPF_F_NO_PREALLOC).expect("a trie"));
        let v6 = [0, 1].map(|_| LpmTrie::create(BLOCKED, BPF_F_NO_PREALLOC).expect("a trie"));
        let mut outer: (ArrayOfMaps<MapData, Trie<4>>, ArrayOfMaps<MapData, Trie<16>>) = (
            take(&pins.map("BLOCKS_V4"), Map::ArrayOfMaps),
            take(&pins.map("BLOCKS_V6"), Map::ArrayOfMaps),
        );
        for bank in 0..2_u32 {
            let at = usize::from(bank == 1);
            outer.0.set(bank, &v4[at], 0).expect("put a trie in place");
            outer.1.set(bank, &v6[at], 0).expect("put a trie in place");
        }
        Self {
            deadlines: take(&pins.map("DEADLINES"), Map::Array),
            filters: take(&pins.map("FILTERS"), Map::Array),
            blocking: take(&pins.map("BLOCKING"), Map::Array),
            banks,
            v4,
            v6,
            _outer: outer,
            filter: None,
            count: 0,
            seen: Vec::new(),
            blocked: BTreeMap::new(),
            replaced: 0,
            ends: BTreeMap::new(),
            is_used: false,
        }
    }

    /// The number of the filter.
    pub(super) fn filter(&self) -> Option<u16> {
        self.filter.as_ref().map(|(_, number)| *number)
    }

    /// Whether anything is blocked.
    pub(super) fn has_blocks(&self) -> bool {
        !self.blocked.is_empty()
    }

    fn set_end(&mut self, counter: u32, end: u64) {
        self.deadlines.set(counter, end, 0).expect("write when something ends");
        self.ends.insert(counter, end);
    }

    fn write_filter(&mut self, filter: &Filter) {
        let tables = filter.tables();
        if self.filter.as_ref().is_none_or(|(present, _)| *present != tables) {
            self.count += 1;
            let place = self.seen.iter().position(|one| *one == tables).unwrap_or_else(|| {
                self.seen.push(tables.clone());
                self.seen.len() - 1
            });
            let place = u64::try_from(place).expect("a few filters");
            let at = self.count % FILTERS.len();
            self.banks[at].write(&tables, false);
            let word = filter::Filter::new(place << 33, tables.has().prefixes);
            self.filters.set(FILTERS[at].into(), word.0, 0).expect("write the filter's word");
            self.filter = Some((tables, FILTERS[at]));
        }
    }

    fn write_blocks(&mut self, table: BTreeMap<IpNet, u32>) {
        self.replaced += 1;
        let (bank, half) = (self.replaced & 1, self.replaced >> 1 & 1);
        let at = usize::from(bank == 1);
        clear(&mut self.v4[at]);
        clear(&mut self.v6[at]);
        let mut has = [false; 2];
        for (network, word) in &table {
            let words = if half == 0 { [*word, WRONG] } else { [WRONG, *word] };
            let length = network.prefix_len().into();
            match network {
                IpNet::V4(v4) => {
                    has[0] = true;
                    self.v4[at].insert(&Key::new(length, v4.network().octets()), words, 0)
                }
                IpNet::V6(v6) => {
                    has[1] = true;
                    self.v6[at].insert(&Key::new(length, v6.network().octets()), words, 0)
                }
            }
            .expect("insert a block");
        }
        let word = Blocking::new(has, bank, half);
        self.blocking.set(0, word.0, 0).expect("write the word of the blocks");
        self.blocked = table;
    }
}

fn clear<const N: usize>(trie: &mut Trie<N>) {
    let keys: Vec<_> = trie.keys().map(|key| key.expect("list a trie")).collect();
    for key in keys {
        trie.remove(&key).expect("remove a block");
    }
}

/// The clock that ends are compared with, in nanoseconds.
fn boottime() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("read the clock");
    let [seconds, rest] =
        [time.tv_sec(), time.tv_nsec()].map(|part| u64::try_from(part).expect("positive"));
    seconds * 1_000_000_000 + rest
}

impl Maps {
    /// Sets when rules end, by number, in seconds from now.
    pub fn set_rule_ends(&mut self, ends: &Ends) {
        let now = boottime();
        for (rule, seconds) in ends {
            // A rule that others make superfluous has no counter.
            if let Ok(index) = self.rule_indexes.get(rule, 0) {
                self.deny.set_end(index, now + padded_end(*seconds));
            }
        }
    }

    /// Replaces the filter, or removes it.
    pub fn set_filter(&mut self, filter: Option<&Filter>) {
        self.deny.is_used = true;
        match filter {
            Some(filter) => {
                self.deny.write_filter(filter);
                self.set_ends(&filter.ends);
            }
            None => self.deny.filter = None,
        }
        self.write_active();
    }

    /// Replaces the blocks of the host.
    pub fn set_blocks(&mut self, blocks: &Blocks) {
        self.deny.is_used = true;
        self.deny.write_blocks(blocks.table());
        self.set_ends(&blocks.ends);
        self.write_active();
    }

    fn set_ends(&mut self, ends: &Ends) {
        let now = boottime();
        for (counter, seconds) in ends {
            self.deny.set_end(*counter, now + padded_end(*seconds));
        }
    }

    /// Brings every end nearer, which has the effect of a later clock.
    pub fn bring_ends_nearer(&mut self, seconds: u32) {
        let by = u64::from(seconds) * 1_000_000_000;
        for (counter, end) in self.deny.ends.clone() {
            // Not 0, which is no end.
            self.deny.set_end(counter, end.saturating_sub(by).max(1));
        }
    }

    /// Packets and bytes of entries and blocks, by counter, without zeros.
    pub fn entries(&self) -> BTreeMap<u32, (u64, u64)> {
        let mut entries = BTreeMap::new();
        if self.deny.is_used {
            for index in ENTRIES..END {
                let Counter { packets, bytes } = self.sum(index);
                if packets != 0 || bytes != 0 {
                    entries.insert(index, (packets, bytes));
                }
            }
        }
        entries
    }

    /// Removes filter and blocks, and clears what is compared.
    pub(super) fn clear_deny(&mut self) {
        for counter in std::mem::take(&mut self.deny.ends).into_keys() {
            self.deny.deadlines.set(counter, 0, 0).expect("clear when something ends");
        }
        self.deny.seen.clear();
        if !std::mem::take(&mut self.deny.is_used) {
            return;
        }
        self.deny.filter = None;
        self.deny.write_blocks(BTreeMap::new());
        for index in self.entry_indexes_in_use() {
            for stripe in stripes() {
                let counters = &mut self.rule_counters;
                counters.set(stripe + index, Counter::default(), 0).expect("clear a counter");
            }
        }
    }

    fn entry_indexes_in_use(&self) -> Vec<u32> {
        const { assert!(BLOCKS > ENTRIES && END > BLOCKS) };
        (ENTRIES..END).filter(|index| self.sum(*index) != Counter::default()).collect()
    }
}
