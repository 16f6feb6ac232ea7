//! Tables of another size for an interface that is attached, with its flows in them.

use std::os::fd::BorrowedFd;

use aya::Pod;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::bloom::{Bit, LINES, Line};
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6, Table};
use firewall_ebpf::wire::address::Address;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::flows::key::AnyKey;
use crate::dataplane::flows::sources::recount;
use crate::dataplane::sys::entries;
use crate::dataplane::tables::interface::{FlowSizes, InterfaceTables, Own};
use crate::dataplane::tables::maps::Maps;

impl Maps {
    /// Replaces an interface's tables by some of these sizes, unless they have them. Flows are kept as far
    /// as they fit; first fragments are not. Returns whether they were replaced: then the interface's
    /// programs must be loaded again, because they still use the old tables.
    ///
    /// The slow path uses the new tables before those programs do. A flow that is promoted in between is
    /// found by the slow path, which looks up once more what the fast path has not found.
    ///
    /// # Errors
    /// The kernel refuses a table; the old ones stay.
    pub fn resize_interface_tables(&mut self, slot: u16, sizes: &FlowSizes) -> Result<bool> {
        let Some(old) = self.interface_tables(slot)? else { return Ok(false) };
        if old.sizes()? == *sizes {
            return Ok(false);
        }
        let new = InterfaceTables::create_beside(&self.pins, slot, sizes)?;
        let keys = copy(&old, &new)?;
        fill_bloom(&new, &keys)?;
        recount(&new)?;
        // Before packets use the new tables: they have a filter of their own, whose first half is in use.
        self.publish_interface_tables(std::slice::from_ref(&new))?;
        self.bloom_in_use.set(u32::from(slot), 0, 0).context("write map BLOOM_IN_USE")?;
        // Flows that began while the others were copied.
        let keys = copy(&old, &new)?;
        // Some moved from the new tier to another in between, and would be found there as they were.
        remove_moved::<FlowKey4>(&new, false)?;
        remove_moved::<FlowKey6>(&new, true)?;
        self.bloom_insert(&keys)?;
        recount(&new)?;
        InterfaceTables::replace_pins(&self.pins, slot)?;
        Ok(true)
    }
}

/// Copies the flows that the new tables do not have; returns the keys of all.
fn copy(old: &InterfaceTables, new: &InterfaceTables) -> Result<Vec<AnyKey>> {
    let mut keys = Vec::new();
    for table in Table::ALL {
        let (from, to) = (old.flows(table, false), new.flows(table, false));
        keys.extend(copy_table::<FlowKey4>(from, to)?.into_iter().map(AnyKey::V4));
        let (from, to) = (old.flows(table, true), new.flows(table, true));
        keys.extend(copy_table::<FlowKey6>(from, to)?.into_iter().map(AnyKey::V6));
    }
    Ok(keys)
}

fn copy_table<K: Pod>(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<Vec<K>> {
    let flows = entries::dump::<K, Flow>(from).context("read a flow table")?;
    for (key, flow) in &flows {
        match entries::insert(to, key, flow) {
            // Of a smaller table, what does not fit is left out.
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => break,
            done => done.context("write a flow").map(drop)?,
        }
    }
    Ok(flows.into_iter().map(|(key, _)| key).collect())
}

/// Removes the flows of the new tier that are proven too.
fn remove_moved<K: Pod>(tables: &InterfaceTables, is_v6: bool) -> Result<()> {
    let new = tables.flows(Table::New, is_v6);
    for table in [Table::Udp, Table::Tcp] {
        let proven = entries::dump::<K, Flow>(tables.flows(table, is_v6));
        for (key, _) in proven.context("read a flow table")? {
            entries::remove(new, &key).context("remove a flow")?;
        }
    }
    Ok(())
}

/// Sets the bits of flows in both halves of a filter that no program uses yet.
fn fill_bloom(tables: &InterfaceTables, keys: &[AnyKey]) -> Result<()> {
    let mut lines = vec![Line::default(); 2 * LINES as usize];
    for key in keys {
        let bit: Bit = match key {
            AnyKey::V4(key) => V4::bit(key),
            AnyKey::V6(key) => V6::bit(key),
        };
        for filter in [0, 1] {
            lines[bit.line(filter) as usize][bit.word()] |= bit.mask();
        }
    }
    let lines = (0..).zip(lines);
    entries::put_all::<u32, Line>(tables.fd(Own::Bloom), lines, &mut |_| {})
        .context("write a Bloom filter")
}
