//! The inner maps of a policy bank.

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, MapData, MapError};
use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, Class, Page};
use firewall_ebpf::abi::prefix::Prefix;
use firewall_user::policy::CompiledPolicy;

/// Capacities of the inner maps.
const CLASSES: u32 = 1 << 13;
const PAGES: u32 = 1 << 8;

/// Linux: the array may be replaced by one of another size.
const BPF_F_INNER_MAP: u32 = 1 << 12;
/// Linux: required for tries.
const BPF_F_NO_PREALLOC: u32 = 1;
/// One bank of a slot. Created once and rewritten in place: no packet reads it at the same time,
/// and a new inner map takes tens of milliseconds, because the kernel waits for an RCU grace
/// period.
pub(crate) struct Bank {
    pub(crate) v4: LpmTrie<MapData, [u8; 4], [u32; 2]>,
    pub(crate) v6: LpmTrie<MapData, [u8; 16], [u32; 2]>,
    pub(crate) classes: Array<MapData, [Class; 2]>,
    pub(crate) pages: Array<MapData, Page>,
    written: CompiledPolicy,
}

impl Bank {
    /// Creates the inner maps, empty.
    pub(crate) fn new() -> Self {
        let fail = |what: &str, error: MapError| -> ! { panic!("create {what}: {error}") };
        Self {
            v4: LpmTrie::create(CLASSES, BPF_F_NO_PREALLOC).unwrap_or_else(|e| fail("a trie", e)),
            v6: LpmTrie::create(CLASSES, BPF_F_NO_PREALLOC).unwrap_or_else(|e| fail("a trie", e)),
            classes: Array::create(CLASSES, BPF_F_INNER_MAP)
                .unwrap_or_else(|e| fail("class rows", e)),
            pages: Array::create(PAGES, BPF_F_INNER_MAP)
                .unwrap_or_else(|e| fail("pages of ranges", e)),
            written: CompiledPolicy::default(),
        }
    }

    /// Writes a policy into one half. The other half gets wrong entries, because the programs must
    /// not read it.
    pub(crate) fn write(&mut self, policy: &CompiledPolicy, in_second: bool) {
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
