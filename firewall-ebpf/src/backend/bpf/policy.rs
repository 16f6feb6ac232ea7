//! The compiled policies, the filters and the blocks over BPF maps.

use aya_ebpf::btf_maps::lpm_trie::Key;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::block::Blocking;
use firewall_ebpf::abi::filter::Filter;
use firewall_ebpf::abi::helper::pack_query;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{Active, List};
use firewall_ebpf::verdict::tables::{Blocks, Ends, Entries, Policy, Prefixes, Rules, TableSet};
use firewall_ebpf::wire::address::Address as _;

use super::maps;
use super::subprograms::{sg_lookup_any, sg_lookup_v4, sg_lookup_v6, sg_rule_ended, sg_search};

/// The tables of all policies and filters, of which a `TableSet` selects those of one, and the blocks.
pub(super) struct PolicyTables;

impl Ends for PolicyTables {
    #[inline(always)]
    fn has_rule_ended(&self, rule: u32) -> bool {
        sg_rule_ended(rule) != 0
    }

    #[inline(always)]
    fn has_entry_ended(&self, counter: u32) -> bool {
        maps::has_ended(counter)
    }
}

impl Entries for PolicyTables {
    #[inline(always)]
    fn filter(&self, active: Active) -> Filter {
        maps::filter(active)
    }

    #[inline(always)]
    fn blocking(&self) -> Blocking {
        maps::blocking()
    }

    #[inline(always)]
    fn count_entry(&self, counter: u32, bytes: u32) {
        maps::count_entry(counter, bytes);
        maps::note_decider(counter);
    }
}

impl Policy for PolicyTables {
    #[inline(always)]
    fn class(&self, set: TableSet, class: u32, direction: Direction) -> Option<(List, u32)> {
        // Userspace changes only the other half of a row; it rewrites this half with equal words.
        let row = &maps::CLASSES.get_value(set.index, &class)?[set.half & 1];
        Some((row.lists[direction as usize & 1], row.parent))
    }

    #[inline(always)]
    fn search(&self, set: TableSet, at: u32, len: u32, traffic: u32) -> Option<u32> {
        match sg_search(set.index, u64::from(at), u64::from(len), u64::from(traffic) + 1) {
            0 => None,
            rule => Some(rule),
        }
    }
}

macro_rules! family {
    ($address:ty, $prefixes:ident, $blocks:ident, $bits:literal, $lookup:expr) => {
        impl Prefixes<$address> for PolicyTables {
            #[inline(always)]
            fn longest_prefix(&self, set: TableSet, address: $address) -> Option<u32> {
                let trie = maps::$prefixes.get(set.index)?;
                let classes = trie.get(&Key::new($bits, address))?;
                // Of both halves; userspace replaces entries, it never writes into one.
                Some(classes[set.half & 1])
            }
        }

        impl Blocks<$address> for PolicyTables {
            #[inline(always)]
            fn block_of(&self, blocking: Blocking, address: $address) -> u32 {
                let Some(trie) = maps::$blocks.get(blocking.bank()) else { return 0 };
                // Of both halves; userspace replaces entries, it never writes into one.
                trie.get(&Key::new($bits, address)).map_or(0, |words| words[blocking.half() & 1])
            }
        }

        impl Rules<$address> for PolicyTables {
            #[inline(always)]
            fn lookup_anywhere(
                &self,
                active: Active,
                direction: Direction,
                traffic: u32,
            ) -> Option<u32> {
                match sg_lookup_any(active.0, pack_query(direction, traffic), <$address>::ANY) {
                    0 => None,
                    rule => Some(rule),
                }
            }

            #[inline(always)]
            fn lookup_rule(
                &self,
                active: Active,
                direction: Direction,
                outside: $address,
                traffic: u32,
            ) -> Option<u32> {
                match $lookup(active.0, pack_query(direction, traffic), outside) {
                    0 => None,
                    rule => Some(rule),
                }
            }
        }
    };
}

family!(V4, PREFIXES_V4, BLOCKS_V4, 32, sg_lookup_v4);
family!(V6, PREFIXES_V6, BLOCKS_V6, 128, lookup_v6);

/// A BPF function takes words, not an array.
#[inline(always)]
fn lookup_v6(active: u64, query: u32, [first, second]: V6) -> u32 {
    sg_lookup_v6(active, query, first, second)
}
