//! Garbage collection: removing expired flows.
//!
//! The kernel program treats an expired flow as absent, so no packet depends on this. It frees entries,
//! above all of the proven tier, from which the kernel evicts nothing.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use anyhow::Result;

use super::{Control, NothingAttached};
use crate::dataplane::Pins;
use crate::dataplane::flows::expire::{self, Expired, has_expired};
use crate::dataplane::flows::list::{FlowEntry, Part};
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::tables::clock;
use crate::dataplane::tables::maps::Maps;
use crate::model::Interface;

/// How much of the tables is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Every entry.
    Full,
    /// As many entries as a command reads fast, of [`FEW`] interfaces: others each time, so that every one
    /// is read at some time, whatever comes before it in its table.
    Partial,
}

/// Interfaces whose tables are read after a change. Also an empty one takes a fraction of a millisecond.
const FEW: usize = 4;
/// Entries that are read of each of their tables.
const FEW_ENTRIES: usize = 1 << 14;

impl Control {
    /// Removes every expired flow: idle for longer than its timeout, or of no interface.
    ///
    /// # Errors
    /// Nothing is attached, or the kernel's tables and programs cannot be used.
    pub fn gc(&mut self) -> Result<Expired> {
        let _lock = self.exclusive_in_kernel()?;
        preflight::capabilities(Work::Maps)?;
        self.try_settle_ends();
        let model = self.model()?;
        let Some(mut maps) = self.maps()? else { return Err(NothingAttached.into()) };
        gc(&self.enforcer.pins, &mut maps, &model.interfaces, Extent::Full)
    }
}

/// Removes expired flows. The lock must be held: without it, flows of an interface that is being
/// attached would be removed as those of no interface.
///
/// # Errors
/// The tables cannot be read, or the kernel programs cannot be run.
pub(super) fn gc(
    pins: &Pins,
    maps: &mut Maps,
    interfaces: &BTreeMap<u16, Interface>,
    extent: Extent,
) -> Result<Expired> {
    // Before the tables: a flow that is refreshed while they are read has not expired.
    let now = clock::now(pins, maps)?;
    let flows = match extent {
        Extent::Full => maps.flows()?,
        Extent::Partial => few_flows(maps, interfaces, now)?,
    };
    let hz = clock::hz();
    let expired =
        expire::expire(pins, flows.iter().filter(|flow| is_expired(flow, interfaces, now, hz)))?;
    if extent == Extent::Full {
        maps.rebuild_blooms(&flows)?;
    }
    // The program that removes them leaves the counts as they are.
    if extent == Extent::Full || expired.proven > 0 {
        maps.recount_sources()?;
    }
    Ok(expired)
}

/// The flows that are read after a change. The clock chooses the interfaces, and chance the place in their
/// tables: a command has nowhere to keep where the last one stopped.
fn few_flows(
    maps: &Maps,
    interfaces: &BTreeMap<u16, Interface>,
    now: u64,
) -> Result<Vec<FlowEntry>> {
    let first = usize::try_from(now % interfaces.len().max(1) as u64).unwrap_or(0);
    let part = Part { from: random(now), limit: FEW_ENTRIES };
    let mut flows = Vec::new();
    for slot in interfaces.keys().cycle().skip(first).take(FEW.min(interfaces.len())) {
        flows.append(&mut maps.flows_of(*slot, Some(part))?);
    }
    Ok(flows)
}

/// A number that differs between commands: the standard library's hashers have random keys.
fn random(now: u64) -> u32 {
    u32::try_from(RandomState::new().hash_one(now) >> 32).unwrap_or(0)
}

/// Whether a flow has expired for the kernel program too, or belongs to no interface.
fn is_expired(entry: &FlowEntry, interfaces: &BTreeMap<u16, Interface>, now: u64, hz: u64) -> bool {
    let (Some(interface), Some(state)) = (interfaces.get(&entry.slot), entry.flow.state()) else {
        return true;
    };
    let timeout = u64::from(interface.timeout(state)).saturating_mul(hz);
    has_expired(entry.flow.last_seen, now, timeout)
}
