//! The search for the flow of a packet.

use super::fast_path::FastPath;
use super::flow::FlowRef;
use super::tables::Flows;
use crate::abi::flow::Table;
use crate::wire::address::Address;

/// The flow of a key, and its table. Packets of a flood that no rule allows are dropped without lookups in
/// tables that are far larger than a processor's caches: the Bloom filter knows that no table has their
/// flow.
#[inline(always)]
pub(super) fn find<'a, A: Address, T: Flows<A>>(
    tables: &'a T,
    protocol: u8,
    key: &A::Key,
    fast_path: FastPath,
) -> Option<(Table, FlowRef<'a>)> {
    if !tables.may_contain(key) {
        return None;
    }
    let proven = Table::proven(protocol);
    if fast_path == FastPath::Undecided
        && let Some(table) = proven
        && let Some(flow) = tables.lookup(table, key)
    {
        return Some((table, flow));
    }
    if let Some(flow) = tables.lookup(Table::New, key) {
        return Some((Table::New, flow));
    }
    // Another CPU may have moved it from the new tier after the lookup among the proven ones.
    let table = proven?;
    Some((table, tables.lookup(table, key)?))
}
