//! The counts of proven TCP flows by source, where a source has a limit.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use aya::Pod;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::flow::{Flow, Table};
use firewall_ebpf::wire::address::Address;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::sys::entries;
use crate::dataplane::tables::interface::InterfaceTables;
use crate::dataplane::tables::maps::Maps;

impl Maps {
    /// Counts the flows of every interface with a limit again: what packets count is exact but for flows
    /// that several CPUs count at once, and for sources whose count the full table has evicted.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn recount_sources(&self) -> Result<()> {
        self.all_interface_tables()?.iter().try_for_each(recount)
    }
}

/// Counts the flows of one interface again. A flow that a packet moves or removes meanwhile may be missed, until
/// the next time. Must be called with the lock held, or for tables that no packet uses.
pub(super) fn recount(tables: &InterfaceTables) -> Result<()> {
    let Some(sources) = tables.sources() else { return Ok(()) };
    let mut counts = HashMap::new();
    count::<V4>(tables.flows(Table::Tcp, false), &mut counts)?;
    count::<V6>(tables.flows(Table::Tcp, true), &mut counts)?;
    write(sources, counts).context("write the counts of flows by source")
}

fn count<A: Address<Key: Pod>>(
    flows: BorrowedFd<'_>,
    counts: &mut HashMap<u64, u32>,
) -> Result<()> {
    for (key, _) in entries::dump::<A::Key, Flow>(flows).context("read a flow table")? {
        *counts.entry(A::source(&key)).or_default() += 1;
    }
    Ok(())
}

/// Writes the counts that differ, so that few of them are written while packets change them.
fn write(sources: BorrowedFd<'_>, mut counts: HashMap<u64, u32>) -> std::io::Result<()> {
    let mut gone = Vec::new();
    for (source, counted) in entries::dump::<u64, u32>(sources)? {
        match counts.get(&source) {
            None => gone.push(source),
            Some(count) if *count == counted => drop(counts.remove(&source)),
            Some(_) => {}
        }
    }
    entries::remove_all(sources, &gone, &mut |_| {})?;
    entries::put_all(sources, counts, &mut |_| {})
}
