//! The tables that explaining runs have for themselves: flows and fragments, copied from those of the interface.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::{Ebpf, Pod};
use firewall_ebpf::abi::flow::Flow;
use firewall_ebpf::abi::fragment::FirstFragment;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::explain::keys::{Keys, tables_of};
use crate::dataplane::flows::key::AnyKey;
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::object::map_fd;
use crate::dataplane::sys::create::create;
use crate::dataplane::sys::entries;
use crate::dataplane::tables::interface::{FlowSizes, InterfaceTables, Own};

/// Far more than the flows of one frame and its reply.
const SIZES: FlowSizes = FlowSizes { new: 1024, udp: 1024, tcp: 1024, fragments: 1024, sources: 0 };

/// Every table of flows and of fragments. No Bloom filter: without one every flow is looked up.
fn tables() -> impl Iterator<Item = Own> {
    Own::ALL.into_iter().filter(|own| *own != Own::Bloom)
}

/// A [`FirstFragment`] in words.
const FRAGMENT_WORDS: usize = size_of::<FirstFragment>() / size_of::<u64>();

/// The tables of explaining runs of one interface.
pub(super) struct OwnTables {
    tables: Vec<(Own, OwnedFd)>,
    /// What was copied or may have been written since [`Self::clear`].
    held: Vec<(Own, AnyKey)>,
}

impl OwnTables {
    /// Creates them.
    pub(super) fn new() -> Result<Self> {
        let table = |own: Own| {
            let fd = create(&own.shape(&SIZES));
            Ok((own, fd.context(format_args!("create a table {} for a test run", own.name()))?))
        };
        Ok(Self { tables: tables().map(table).collect::<Result<_>>()?, held: Vec::new() })
    }

    /// Shows them to the programs of an object, as the tables of a slot.
    pub(super) fn show(&self, object: &Ebpf, slot: u16) -> Result<()> {
        for (own, fd) in &self.tables {
            let value = u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
            entries::put(map_fd(object, own.outer())?, &own.index(slot), &value)
                .context(format_args!("write map {} of a test run", own.outer()))?;
        }
        Ok(())
    }

    /// Copies what the programs may look up of a frame from the interface's tables. What a run since
    /// [`Self::clear`] may have written stays.
    pub(super) fn copy(&mut self, from: &InterfaceTables, keys: &Keys) -> Result<()> {
        for (key, protocol) in &keys.flows {
            for table in tables_of(*protocol) {
                self.copy_one::<Flow>(from, Own::Flows(table, key.is_v6()), *key)?;
            }
        }
        match keys.fragment {
            Some(key) => {
                self.copy_one::<[u64; FRAGMENT_WORDS]>(from, Own::Fragments(key.is_v6()), key)
            }
            None => Ok(()),
        }
    }

    fn copy_one<V: Pod>(&mut self, from: &InterfaceTables, own: Own, key: AnyKey) -> Result<()> {
        if self.held.contains(&(own, key)) {
            return Ok(());
        }
        let found = get::<V>(from.fd(own), &key);
        if let Some(value) = found.context(format_args!("read table {}", own.name()))? {
            let done = match &key {
                AnyKey::V4(key) => entries::put(self.fd(own)?, key, &value),
                AnyKey::V6(key) => entries::put(self.fd(own)?, key, &value),
            };
            done.context(format_args!("write a table {} of a test run", own.name()))?;
        }
        self.held.push((own, key));
        Ok(())
    }

    /// The flow of a key, as it is in these tables now.
    pub(super) fn flow(&self, (key, protocol): (AnyKey, u8)) -> Result<Option<FlowEntry>> {
        for table in tables_of(protocol) {
            let own = Own::Flows(table, key.is_v6());
            let found = get::<Flow>(self.fd(own)?, &key);
            if let Some(flow) = found.context(format_args!("read table {}", own.name()))? {
                return Ok(Some(FlowEntry::of(key, table, flow)));
            }
        }
        Ok(None)
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> Result<()> {
        for (own, key) in std::mem::take(&mut self.held) {
            let done = match &key {
                AnyKey::V4(key) => entries::remove(self.fd(own)?, key),
                AnyKey::V6(key) => entries::remove(self.fd(own)?, key),
            };
            done.context(format_args!("clear a table {} of a test run", own.name()))?;
        }
        Ok(())
    }

    fn fd(&self, own: Own) -> Result<BorrowedFd<'_>> {
        let found = self.tables.iter().find(|(one, _)| *one == own);
        // Every caller names one of `tables`.
        let missing = || DataplaneError::new(format!("no table {} of a test run", own.name()), "");
        found.map(|(_, fd)| fd.as_fd()).ok_or_else(missing)
    }
}

fn get<V: Pod>(table: BorrowedFd<'_>, key: &AnyKey) -> std::io::Result<Option<V>> {
    match key {
        AnyKey::V4(key) => entries::get(table, key),
        AnyKey::V6(key) => entries::get(table, key),
    }
}
