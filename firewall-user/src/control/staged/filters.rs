//! The filters of interfaces: each that is compiled the same is in the kernel once.

use std::collections::BTreeMap;

use anyhow::Result;

use super::numbers::Indexes;
use super::{Context, refused};
use crate::control::boot;
use crate::control::enforcer::require_memory_for;
use crate::control::progress::Progress;
use crate::dataplane::DataplaneError;
use crate::dataplane::tables::filters::NewFilter;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::trie_memory;
use crate::model::{Interface, Model};
use crate::policy::filter::{
    CompiledFilter, ResolvedEntry, check_filter, compile_filter, filter_entries, filter_probes,
};
use crate::policy::probes::Asked;

/// What the interfaces' filters consist of, by slot; an interface without a filter is left out.
pub(super) type Entries = BTreeMap<u16, Vec<ResolvedEntry>>;

/// The entries of every interface's filter.
pub(super) fn entries(model: &Model, indexes: &Indexes) -> Entries {
    let of = |interface: &Interface| filter_entries(model, interface, &|n| indexes.of(n));
    let all = model.interfaces.iter();
    all.filter_map(|(slot, interface)| Some((*slot, of(interface)?))).collect()
}

/// Compiles an interface's filter.
///
/// # Errors
/// It does not fit.
pub(in crate::control) fn compile(
    interface: &Interface,
    entries: &[ResolvedEntry],
) -> Result<CompiledFilter> {
    compile_filter(entries).map_err(|error| {
        DataplaneError::new(
            format!("network ACL of {}: {error}", interface.device),
            "fewer entries with an end of their own, or of its prefix lists, make it smaller",
        )
        .into()
    })
}

/// Writes the filters that are not in the kernel, and compares what it finds in them. Returns the numbers of
/// all by slot.
///
/// # Errors
/// One does not fit, the kernel refuses it, or finds something else there.
pub(super) fn stage(
    maps: &Maps,
    context: Context<'_>,
    (model, entries): (&Model, &Entries),
    progress: &mut Progress,
) -> Result<BTreeMap<u16, u16>> {
    let mut numbers = BTreeMap::new();
    let mut written: Vec<(&[ResolvedEntry], u16)> = Vec::new();
    let mut new: Vec<(NewFilter, &Interface, &[ResolvedEntry])> = Vec::new();
    for (slot, wanted) in entries {
        let Some(interface) = model.interfaces.get(slot) else { continue };
        let number = match unchanged(maps, context, *slot, wanted)? {
            Some(number) => number,
            None => match written.iter().find(|(known, _)| known == wanted) {
                Some((_, number)) => *number,
                None => {
                    let filter = compile(interface, wanted)?;
                    let is_same = |(one, ..): &&(NewFilter, _, _)| one.word() == filter.word();
                    let staged = new.iter().find(is_same).map(|(one, ..)| one.number());
                    match staged.map_or_else(|| maps.find_filter(filter.word()), |n| Ok(Some(n)))? {
                        Some(number) => number,
                        None => {
                            let one = create(maps, &filter, progress)?;
                            let number = one.number();
                            new.push((one, interface, wanted));
                            number
                        }
                    }
                }
            },
        };
        written.push((wanted, number));
        numbers.insert(*slot, number);
    }
    maps.publish_filters(new.iter().map(|(one, ..)| one))?;
    for (filter, interface, entries) in &new {
        if entries.iter().any(|entry| context.is_moved(entry.counter)) {
            continue;
        }
        let from = boot::nanoseconds()?;
        let results = maps.probe_filter(filter.number(), &filter_probes(entries))?;
        let asked = Asked { from, to: boot::nanoseconds()? };
        check_filter(entries, asked, &results)
            .map_err(|error| refused(&format!("network ACL of {}", interface.device), &error))?;
    }
    Ok(numbers)
}

/// The filter that a slot has, if it is known that its entries are these.
fn unchanged(
    maps: &Maps,
    context: Context<'_>,
    slot: u16,
    wanted: &[ResolvedEntry],
) -> Result<Option<u16>> {
    let Context { prior: Some(prior), indexes, .. } = context else { return Ok(None) };
    let Some(was) = prior.model.interfaces.get(&slot) else { return Ok(None) };
    let entries = filter_entries(prior.model, was, &|n| indexes.of(n));
    if entries.as_deref() != Some(wanted) {
        return Ok(None);
    }
    Ok(maps.active(slot)?.filter())
}

fn create(maps: &Maps, filter: &CompiledFilter, progress: &mut Progress) -> Result<NewFilter> {
    let prefixes = [filter.tables.prefixes_v4.len(), filter.tables.prefixes_v6.len()];
    require_memory_for("the tables of a network ACL", trie_memory(prefixes))?;
    progress.expect_more(prefixes.iter().sum());
    Ok(maps.create_filter(filter, &mut |done| progress.advance(done))?)
}
