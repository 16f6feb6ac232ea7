//! The search for the flow of a packet.

use super::flow::FlowRef;
use super::tables::Flows;
use crate::abi::flow::Table;
use crate::wire::address::Address;

/// The flow of a key, and its table. Packets of a flood that no rule allows are dropped without lookups in
/// tables that are far larger than a processor's caches: the Bloom filter knows that no table has their
/// flow.
///
/// The new tier first: a flow moves by being stored among the proven ones and then removed here, so that
/// another CPU that moves it meanwhile does not hide it from either lookup. A CPU that finds the record before
/// it is removed changes only that one: what that packet did to its flow is lost, as where two CPUs change one
/// record at once, and a connection that it closed keeps its flow for the idle time of its earlier state.
#[inline(always)]
pub(super) fn find<'a, A: Address, T: Flows<A>>(
    tables: &'a T,
    protocol: u8,
    key: &A::Key,
) -> Option<(Table, FlowRef<'a>)> {
    if !tables.may_contain(key) {
        return None;
    }
    if let Some(flow) = tables.lookup(Table::New, key) {
        return Some((Table::New, flow));
    }
    let table = Table::proven(protocol)?;
    Some((table, tables.lookup(table, key)?))
}
