//! The flow tables of one family.

use aya::Pod;
use aya::maps::{HashMap, MapData};
use firewall_ebpf::abi::bloom::Bit;
use firewall_ebpf::abi::flow::{Flow, Table};

/// Linux: only if the key exists.
const BPF_EXIST: u64 = 2;

/// The flow tables of one family.
pub(super) struct Family<K: Pod> {
    pub(super) new: HashMap<MapData, K, Flow>,
    pub(super) udp: HashMap<MapData, K, Flow>,
    pub(super) tcp: HashMap<MapData, K, Flow>,
}

impl<K: Pod> Family<K> {
    /// The map of a table.
    pub(super) const fn table(&self, table: Table) -> &HashMap<MapData, K, Flow> {
        match table {
            Table::New => &self.new,
            Table::Udp => &self.udp,
            Table::Tcp => &self.tcp,
        }
    }

    /// Removes all flows.
    pub(super) fn clear(&mut self) {
        for map in [&mut self.new, &mut self.udp, &mut self.tcp] {
            clear_map(map);
        }
    }

    /// Changes every flow in place.
    pub(super) fn edit(&mut self, change: impl Fn(&mut Flow)) {
        for map in [&mut self.new, &mut self.udp, &mut self.tcp] {
            edit(map, &change);
        }
    }

    /// Replaces the key of every flow; returns the new keys' bits in the Bloom filter.
    pub(super) fn rekey(&mut self, other: impl Fn(K) -> K, bit: impl Fn(&K) -> Bit) -> Vec<Bit> {
        let mut bits = Vec::new();
        for map in [&mut self.new, &mut self.udp, &mut self.tcp] {
            for (key, flow) in entries(map) {
                map.remove(&key).expect("remove a flow");
                map.insert(other(key), flow, 0).expect("insert a flow");
                bits.push(bit(&other(key)));
            }
        }
        bits
    }

    /// Inserts flows into the table of proven TCP flows until it is full, or removes these again.
    pub(super) fn fill(&mut self, full: bool, filler: impl Fn(u16) -> K) {
        for port in 0.. {
            let key = filler(port);
            let done =
                if full { self.tcp.insert(key, Flow::default(), 0) } else { self.tcp.remove(&key) };
            if done.is_err() {
                return;
            }
        }
    }
}

/// All entries of a map.
pub(super) fn entries<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> Vec<(K, V)> {
    map.iter().map(|entry| entry.expect("read a map")).collect()
}

/// Removes all entries of a map.
pub(super) fn clear_map<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) {
    for (key, _) in entries(map) {
        map.remove(&key).expect("empty a map");
    }
}

/// Changes every value of a map in place.
pub(super) fn edit<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, change: impl Fn(&mut V)) {
    for (key, mut value) in entries(map) {
        change(&mut value);
        map.insert(key, value, BPF_EXIST).expect("change an entry");
    }
}
