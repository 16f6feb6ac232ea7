//! The compiled policies over BPF maps.

use aya_ebpf::btf_maps::lpm_trie::Key;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::helper::pack_query;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{Active, List};
use firewall_ebpf::verdict::tables::{Policy, Prefixes, Rules};
use firewall_ebpf::wire::address::Address as _;

use super::maps;
use super::subprograms::{sg_lookup_any, sg_lookup_v4, sg_lookup_v6, sg_search};

/// The tables of all policies; an `Active` word selects those of one.
pub(super) struct PolicyTables;

impl Policy for PolicyTables {
    #[inline(always)]
    fn class(&self, active: Active, class: u32, direction: Direction) -> Option<(List, u32)> {
        // Userspace changes only the other half of a row; it rewrites this half with equal words.
        let row = &maps::CLASSES.get_value(active.index(), &class)?[active.half() & 1];
        Some((row.lists[direction as usize & 1], row.parent))
    }

    #[inline(always)]
    fn search(&self, active: Active, at: u32, len: u32, traffic: u32) -> Option<u32> {
        match sg_search(active.index(), u64::from(at), u64::from(len), u64::from(traffic) + 1) {
            0 => None,
            rule => Some(rule),
        }
    }
}

macro_rules! family {
    ($address:ty, $prefixes:ident, $bits:literal, $lookup:expr) => {
        impl Prefixes<$address> for PolicyTables {
            #[inline(always)]
            fn longest_prefix(&self, active: Active, address: $address) -> Option<u32> {
                let trie = maps::$prefixes.get(active.index())?;
                let classes = trie.get(&Key::new($bits, address))?;
                // Of both halves; userspace replaces entries, it never writes into one.
                Some(classes[active.half() & 1])
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

family!(V4, PREFIXES_V4, 32, sg_lookup_v4);
family!(V6, PREFIXES_V6, 128, lookup_v6);

/// A BPF function takes words, not an array.
#[inline(always)]
fn lookup_v6(active: u64, query: u32, [first, second]: V6) -> u32 {
    sg_lookup_v6(active, query, first, second)
}
