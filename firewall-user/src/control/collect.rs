//! Dead flows: who is one, and when they go.
//!
//! The kernel takes a dead flow for absent, so nothing waits for this; it makes room, in the proven
//! tier above all, which evicts nothing by itself.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::dataplane::Pins;
use crate::dataplane::flows::expire;
use crate::dataplane::flows::expire::{Expired, has_expired};
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::tables::clock;
use crate::dataplane::tables::maps::Maps;
use crate::model::Interface;

/// How much of the tables to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Everything.
    All,
    /// So much that a command does not get slow: all there is on most hosts, and where there is
    /// more, a part.
    Little,
}

impl Effort {
    /// Entries of each table.
    const fn entries(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::Little => 1 << 14,
        }
    }
}

/// Removes the dead flows. The lock must be held: else a flow of an interface that is being
/// attached would belong to nobody.
///
/// # Errors
/// The tables cannot be read, or the kernel programs cannot be run.
pub(super) fn collect(
    pins: &Pins,
    maps: &mut Maps,
    interfaces: &BTreeMap<u16, Interface>,
    effort: Effort,
) -> Result<Expired> {
    // Before the tables: what is touched while they are read looks young, not old.
    let now = clock::now(pins, maps)?;
    let flows = maps.flows_limited(effort.entries())?;
    let hz = clock::hz();
    let reaped =
        expire::expire(pins, flows.iter().filter(|flow| is_dead(flow, interfaces, now, hz)))?;
    if effort == Effort::All {
        maps.rebuild_bloom(flows.len())?;
    }
    Ok(reaped)
}

/// Whether a flow is dead to the kernel program too, or belongs to no interface.
fn is_dead(entry: &FlowEntry, interfaces: &BTreeMap<u16, Interface>, now: u64, hz: u64) -> bool {
    let (Some(interface), Some(state)) = (interfaces.get(&entry.slot), entry.flow.state()) else {
        return true;
    };
    let timeout = u64::from(interface.timeout(state)).saturating_mul(hz);
    has_expired(entry.flow.last_seen, now, timeout)
}
