//! Listing and removing flows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use aya::Pod;
use firewall_ebpf::abi::counter::UserCounter;
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6, QUERY_FROM_INSIDE, Table, Tier};
use firewall_ebpf::abi::fragment::FirstFragment;
use firewall_ebpf::abi::interface::Direction;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::flows::key::AnyKey;
pub use crate::dataplane::flows::key::FlowId;
use crate::dataplane::flows::sources::recount;
use crate::dataplane::sys::entries;
use crate::dataplane::sys::memory::memory;
use crate::dataplane::tables::interface::{InterfaceTables, Own};
use crate::dataplane::tables::maps::Maps;

/// A flow of the kernel's tables, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// The attachment it belongs to.
    pub slot: u16,
    /// The table that holds it.
    pub table: Table,
    /// IP protocol number.
    pub protocol: u8,
    /// Address of the protected end.
    pub inside: IpAddr,
    /// Address of the other end.
    pub outside: IpAddr,
    /// Port of the protected end; of an ICMP query the identifier if this end sent the request, else
    /// 256 times its type plus its code; else 0.
    pub inside_port: u16,
    /// Port of the other end; of an ICMP query as above.
    pub outside_port: u16,
    /// The record.
    pub flow: Flow,
    pub(super) key: AnyKey,
}

/// How full a flow table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// The attachment.
    pub slot: u16,
    /// The table.
    pub table: Table,
    /// `true`: IPv6.
    pub is_v6: bool,
    /// Entries, including expired ones that are not removed yet.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u32,
    /// The table's memory in bytes; `None` before Linux 6.4. That of the LRU tables does not depend on
    /// `entries`.
    pub memory: Option<u64>,
}

impl Occupancy {
    /// Thousandths of the entries that fit.
    #[must_use]
    pub fn per_mille(&self) -> u64 {
        self.entries * 1000 / u64::from(self.capacity.max(1))
    }
}

/// A part of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, in fractions of the table of 1 / 2^32. Behind the end the table begins again.
    pub from: u32,
    /// About how many entries at most.
    pub limit: usize,
}

impl Part {
    /// The bucket with which the part of a table begins. The kernel makes as many buckets as entries, rounded
    /// up to a power of two.
    fn bucket(self, capacity: u32) -> u32 {
        let buckets = u64::from(capacity.max(1)).next_power_of_two();
        u32::try_from((u64::from(self.from) * buckets) >> 32).unwrap_or(0)
    }
}

/// A [`FirstFragment`] in words.
const FRAGMENT_WORDS: usize = size_of::<FirstFragment>() / size_of::<u64>();

trait Key: Pod {
    const IS_V6: bool;

    fn entry(self, table: Table, flow: Flow) -> FlowEntry;
}

impl Key for FlowKey4 {
    const IS_V6: bool = false;

    fn entry(self, table: Table, flow: Flow) -> FlowEntry {
        let address = |raw: u32| IpAddr::V4(Ipv4Addr::from(u32::from_be(raw)));
        FlowEntry {
            slot: self.slot,
            table,
            protocol: self.protocol,
            inside: address(self.inside),
            outside: address(self.outside),
            inside_port: u16::from_be(self.inside_port),
            outside_port: u16::from_be(self.outside_port),
            flow,
            key: AnyKey::V4(self),
        }
    }
}

impl Key for FlowKey6 {
    const IS_V6: bool = true;

    fn entry(self, table: Table, flow: Flow) -> FlowEntry {
        let address = |[first, second]: [u64; 2]| {
            let word = u128::from(u64::from_be(first)) << 64 | u128::from(u64::from_be(second));
            IpAddr::V6(Ipv6Addr::from(word))
        };
        FlowEntry {
            slot: self.slot,
            table,
            protocol: self.protocol,
            inside: address(self.inside),
            outside: address(self.outside),
            inside_port: u16::from_be(self.inside_port),
            outside_port: u16::from_be(self.outside_port),
            flow,
            key: AnyKey::V6(self),
        }
    }
}

impl FlowEntry {
    /// The flow of a key in a table.
    pub(in crate::dataplane) fn of(key: AnyKey, table: Table, flow: Flow) -> Self {
        match key {
            AnyKey::V4(key) => key.entry(table, flow),
            AnyKey::V6(key) => key.entry(table, flow),
        }
    }

    /// Which flow it is.
    #[must_use]
    pub const fn id(&self) -> FlowId {
        FlowId(self.key)
    }

    /// The tier of the table that holds it.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.table.tier()
    }

    /// The direction of the flow's first packet.
    #[must_use]
    pub fn initiator(&self) -> Direction {
        match self.key {
            AnyKey::V4(FlowKey4 { query, .. }) | AnyKey::V6(FlowKey6 { query, .. })
                if query != 0 =>
            {
                if query == QUERY_FROM_INSIDE {
                    Direction::Egress
                } else {
                    Direction::Ingress
                }
            }
            _ => self.flow.initiator(),
        }
    }

    /// Identifier, type and code of an ICMP query.
    #[must_use]
    pub fn query(&self) -> Option<(u16, u8, u8)> {
        let (AnyKey::V4(FlowKey4 { query, .. }) | AnyKey::V6(FlowKey6 { query, .. })) = self.key;
        let (id, request) = match query {
            0 => return None,
            QUERY_FROM_INSIDE => (self.inside_port, self.outside_port),
            _ => (self.outside_port, self.inside_port),
        };
        let [kind, code] = request.to_be_bytes();
        Some((id, kind, code))
    }

    /// Whether the connection was open before its interface was attached: no rule allowed the flow.
    #[must_use]
    pub const fn is_learned(&self) -> bool {
        self.flow.rule == 0 && !self.is_exempt()
    }

    /// Whether this is the flow of the exempt DHCP client, which has no addresses.
    #[must_use]
    pub const fn is_exempt(&self) -> bool {
        self.flow.rule == 0 && self.inside.is_unspecified() && self.outside.is_unspecified()
    }
}

impl Maps {
    /// Every flow of every slot, in no order. Flows that move while the tables are read may be
    /// missed or returned twice.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn flows(&self) -> Result<Vec<FlowEntry>> {
        let mut flows = Vec::new();
        for tables in self.all_interface_tables()? {
            flows.append(&mut read_all(&tables, None)?);
        }
        Ok(flows)
    }

    /// Flows of a slot: all, or a part of each table.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn flows_of(&self, slot: u16, part: Option<Part>) -> Result<Vec<FlowEntry>> {
        let tables = self.interface_tables(slot)?;
        tables.map_or(Ok(Vec::new()), |tables| read_all(&tables, part))
    }

    /// Removes flows; returns how many of them still existed.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn remove_flows<'a>(
        &mut self,
        flows: impl IntoIterator<Item = &'a FlowEntry>,
    ) -> Result<u64> {
        let mut removed = 0;
        let mut new: BTreeMap<u16, u64> = BTreeMap::new();
        let mut opened: BTreeMap<u16, Option<InterfaceTables>> = BTreeMap::new();
        for flow in flows {
            let tables = match opened.entry(flow.slot) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.interface_tables(flow.slot)?),
            };
            let Some(tables) = tables else { continue };
            let existed = match &flow.key {
                AnyKey::V4(key) => entries::remove(tables.flows(flow.table, false), key),
                AnyKey::V6(key) => entries::remove(tables.flows(flow.table, true), key),
            };
            let existed = existed.context("remove a flow")?;
            removed += u64::from(existed);
            if existed && flow.table == Table::New {
                *new.entry(flow.slot).or_default() += 1;
            }
        }
        // Without this they would count as evicted.
        for (slot, count) in new {
            let before = self.user_counter(UserCounter::Removed, slot)?;
            self.set_user_counter(UserCounter::Removed, slot, before + count)?;
        }
        opened.values().flatten().try_for_each(recount)?;
        Ok(removed)
    }

    /// How full the tables of flows are, by interface, given the result of [`Self::flows`].
    ///
    /// # Errors
    /// A table cannot be opened.
    pub fn occupancy(&self, flows: &[FlowEntry]) -> Result<Vec<Occupancy>> {
        let mut occupancies = Vec::new();
        for tables in self.all_interface_tables()? {
            let (slot, sizes) = (tables.slot(), tables.sizes()?);
            for table in Table::ALL {
                let capacity = match table {
                    Table::New => sizes.new,
                    Table::Udp => sizes.udp,
                    Table::Tcp => sizes.tcp,
                };
                for is_v6 in [false, true] {
                    let here = |flow: &&FlowEntry| {
                        let family = flow.inside.is_ipv6();
                        (flow.slot, flow.table, family) == (slot, table, is_v6)
                    };
                    let entries = flows.iter().filter(here).count();
                    let entries = u64::try_from(entries).unwrap_or(u64::MAX);
                    let memory = memory(tables.flows(table, is_v6));
                    occupancies.push(Occupancy { slot, table, is_v6, entries, capacity, memory });
                }
            }
        }
        Ok(occupancies)
    }
}

impl Maps {
    /// Removes the first fragments of a slot.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn remove_fragments(&mut self, slot: u16) -> Result<()> {
        let Some(tables) = self.interface_tables(slot)? else { return Ok(()) };
        remove_fragments::<FlowKey4>(tables.fd(Own::Fragments(false)))?;
        remove_fragments::<FlowKey6>(tables.fd(Own::Fragments(true)))
    }
}

fn remove_fragments<K: Key>(map: BorrowedFd<'_>) -> Result<()> {
    let fragments = entries::dump::<K, [u64; FRAGMENT_WORDS]>(map).context("read the fragments")?;
    let keys: Vec<K> = fragments.into_iter().map(|(key, _)| key).collect();
    entries::remove_all(map, &keys, &mut |_| {}).context("remove the fragments")
}

/// Flows of an interface: those of whole tables, or of a part of each.
fn read_all(tables: &InterfaceTables, part: Option<Part>) -> Result<Vec<FlowEntry>> {
    let mut flows = Vec::new();
    for table in Table::ALL {
        flows.append(&mut read::<FlowKey4>(tables, table, part)?);
        flows.append(&mut read::<FlowKey6>(tables, table, part)?);
    }
    Ok(flows)
}

fn read<K: Key>(
    tables: &InterfaceTables,
    table: Table,
    part: Option<Part>,
) -> Result<Vec<FlowEntry>> {
    let map = tables.flows(table, K::IS_V6);
    let entries = match part {
        None => entries::dump::<K, Flow>(map),
        Some(part) => {
            let from = part.bucket(tables.capacity(table, K::IS_V6)?);
            entries::dump_from(map, from, part.limit)
        }
    };
    let entries = entries.context("read a flow table")?;
    Ok(entries.into_iter().map(|(key, flow)| key.entry(table, flow)).collect())
}

/// An entry of IPv4 that no table holds: addresses and ports in host byte order.
#[cfg(test)]
pub(crate) fn tuple_for_test(
    (slot, protocol): (u16, u8),
    (inside, inside_port): (Ipv4Addr, u16),
    (outside, outside_port): (Ipv4Addr, u16),
    flow: Flow,
) -> FlowEntry {
    let key = FlowKey4 {
        inside: u32::from(inside).to_be(),
        outside: u32::from(outside).to_be(),
        inside_port: inside_port.to_be(),
        outside_port: outside_port.to_be(),
        slot,
        protocol,
        query: 0,
    };
    key.entry(Table::New, flow)
}

/// An entry that no table holds.
#[cfg(test)]
pub(super) fn entry_for_test(key: AnyKey, table: Table, flow: Flow) -> FlowEntry {
    match key {
        AnyKey::V4(key) => key.entry(table, flow),
        AnyKey::V6(key) => key.entry(table, flow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_begins_within_the_table() {
        let bucket = |from, capacity| Part { from, limit: 1 }.bucket(capacity);
        for capacity in [1_u32, 16, 1000, 65_536, 16_777_216] {
            let buckets = capacity.next_power_of_two();
            assert_eq!(bucket(0, capacity), 0);
            assert_eq!(bucket(u32::MAX, capacity), buckets - 1);
            assert_eq!(bucket(1 << 31, capacity), buckets / 2);
        }
    }
}
