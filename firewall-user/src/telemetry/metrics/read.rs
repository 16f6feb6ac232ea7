//! Reading the values of a scrape.

use std::time::SystemTime;

use anyhow::Result;

use super::{
    BlockCount, Delivered, EntryCount, InKernel, Measured, Reading, RuleCount, Sources,
    StoreValues, Stored,
};
use crate::clock::Clocks;
use crate::control::Control;
use crate::control::enforcement::State;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::tables::maps::Maps;
use crate::model::{Interface, Model, Peer};
use crate::observe::flow_logs::status::Statuses;
use crate::observe::hits::Hits;

pub(super) fn read(
    open: impl FnOnce() -> Result<Control>,
    sources: &Sources,
    reading: &mut Reading,
) -> Result<()> {
    let control = open()?;
    let model = control.model()?;
    let change = control.unconfirmed_change()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    reading.store = Some(StoreValues {
        generation: control.store().generation()?,
        panic: model.is_panicking,
        deadline: change.map(|change| (now + change.left).as_secs()),
        blocks: blocks_in_force(&model),
        ended: control.store().ended()?,
    });
    let maps = control.maps();
    let (last, mut unread) = (control.last_reconciles(), None);
    for interface in model.interfaces.values() {
        // Where the tables cannot be read, nobody knows whether one is enforced.
        let found = maps.as_ref().ok().map(|maps| control.enforcement(maps.as_ref(), interface));
        let kernel = found.and_then(|found| {
            let found = found.map_err(|error| unread = unread.take().or(Some(error))).ok()?;
            Some(InKernel {
                hook: found.hook.map_or("none", Hook::name),
                is_enforcing: found.state.is_enforced(),
                has_device: found.state != State::DeviceMissing,
                generation: found.active.generation().into(),
            })
        });
        reading.stored.push(Stored {
            label: interface.label(),
            mode: interface.mode.name(),
            acl: model.acl_of(interface).map_or_else(String::new, |acl| acl.id.to_string()),
            kernel,
            last: last.get(&interface.id.to_string()).copied(),
        });
    }
    name_accounts(&model, reading);
    read_flow_logs(&control, &model, reading);
    let mut rules = Ok(());
    if sources.has_rules() {
        rules = read_rules(&control, &model, sources, reading);
    }
    if let Some(mut maps) = maps? {
        read_tables(&mut maps, &model, reading)?;
    }
    unread.map_or(Ok(()), Err)?;
    reading.tables_readable = true;
    rules
}

/// Those of networks, and those of prefix lists.
fn blocks_in_force(model: &Model) -> [u64; 2] {
    let now = Clocks::now().moment.boottime;
    let mut counts = [0, 0];
    for block in model.blocks.values() {
        if block.end.is_none_or(|end| end.left(now).is_some()) {
            counts[usize::from(matches!(block.target, Peer::PrefixList(_)))] += 1;
        }
    }
    counts
}

fn read_tables(maps: &mut Maps, model: &Model, reading: &mut Reading) -> Result<()> {
    let survey = maps.survey(model.interfaces.keys().copied())?;
    for interface in model.interfaces.values() {
        reading.interfaces.push(Measured {
            slot: interface.slot,
            label: interface.label(),
            counters: maps.counters(interface.slot)?,
            events: maps.events(interface.slot)?,
            evicted: survey.evicted.get(&interface.slot).copied().unwrap_or_default(),
        });
    }
    reading.tables = maps.occupancy(&survey.flows)?;
    let counts = maps.rule_counters()?;
    for rule in &mut reading.rules {
        // One that others cover is in no policy, and no packet is counted for it.
        rule.count = Some(counts.get(&rule.number).copied().unwrap_or_default());
    }
    for acl in model.acls.values() {
        for ((direction, number), entry) in &acl.entries {
            if let Some(count) = counts.get(&entry.number) {
                let (acl, action) = (acl.id.to_string(), entry.action.name().to_owned());
                let labels = [acl, direction.name().to_owned(), number.to_string(), action];
                reading.entries.push(EntryCount { labels, count: *count });
            }
        }
    }
    for block in model.blocks.values() {
        if let (Peer::PrefixList(list), Some(count)) = (&block.target, counts.get(&block.number)) {
            let found = block.interface.as_ref().and_then(|id| {
                let mut interfaces = model.interfaces.values();
                interfaces.find(|interface| interface.id == *id)
            });
            let interface = found.map_or_else(String::new, Interface::label);
            reading
                .blocks
                .push(BlockCount { labels: [list.to_string(), interface], count: *count });
        }
    }
    Ok(())
}

/// The rules of all groups, with what they were used for. Where that cannot be read, without it.
fn read_rules(
    control: &Control,
    model: &Model,
    sources: &Sources,
    reading: &mut Reading,
) -> Result<()> {
    let covered = sources.covered(control, model)?;
    let hits = Hits::read(control);
    for group in model.groups.values() {
        for rule in &group.rules {
            reading.rules.push(RuleCount {
                number: rule.number,
                group: group.id.to_string(),
                rule: rule.id.to_string(),
                count: None,
                is_covered: covered.contains(&rule.number),
                hits: hits.as_ref().ok().and_then(|hits| hits.of(rule.number)).copied(),
            });
        }
    }
    hits.map(drop)
}

/// The flow logs, with what became of their records. Of one that has no interval yet it is nothing.
fn read_flow_logs(control: &Control, model: &Model, reading: &mut Reading) {
    let statuses = Statuses::read(&control.paths().state_dir);
    let logs = model.flow_logs.values();
    reading.flow_logs =
        logs.map(|log| Delivered { id: log.id.to_string(), status: statuses.of(log) }).collect();
}

/// Replaces the ids of interfaces in accounts by their labels. Those of interfaces that are gone are left out.
fn name_accounts(model: &Model, reading: &mut Reading) {
    let Some(records) = &mut reading.records else { return };
    records.accounts.retain_mut(|account| {
        let mut interfaces = model.interfaces.values();
        let found = interfaces.find(|one| one.id.as_str() == account.interface);
        found.is_some_and(|interface| {
            account.interface = interface.label();
            true
        })
    });
}
