//! `secgroup status`

mod document;

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Args;
use firewall_ebpf::event::Event;
use firewall_ebpf::policy::Active;
use serde_json::{Value, json};

use super::confirm;
use super::interfaces::Selection;
use super::output::{self, Format, Output};
use super::{Context, Exit, panic};
use crate::control::{Control, inside};
use crate::dataplane::flows::survey::Survey;
use crate::dataplane::hooks::attached;
use crate::dataplane::hooks::hook::{self, Hook};
use crate::dataplane::host::device;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::{RULE_COUNTER, RuleCounters};
use crate::model::{Family, Interface, Model};

#[derive(Debug, Args)]
#[command(after_help = "\
States of an interface
  enforcing       its programs run and its policy is in force
  not-enforcing   stored, but not in the kernel: `secgroup reconcile` restores it
  device-missing  there is no such device now

Exits with 3 if nothing is attached.")]
pub(super) struct Command {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    output: Output,
}

/// What an interface is, and what it came to.
struct Seen<'a> {
    interface: &'a Interface,
    state: &'static str,
    hook: Option<Hook>,
    why: String,
    rules: usize,
    /// Bytes of the policy in the kernel.
    memory: Option<u64>,
    /// Families of which some traffic needs no flow.
    untracked: Vec<&'static str>,
    addresses: Vec<IpAddr>,
}

impl Seen<'_> {
    /// What a rule takes on average: its share of the policy, and its counter.
    fn bytes_per_rule(&self) -> Option<u64> {
        let rules = u64::try_from(self.rules).unwrap_or(u64::MAX);
        Some(self.memory?.checked_div(rules)? + RULE_COUNTER)
    }
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        self.print(context).context("status")
    }

    fn print(self, context: &Context) -> Result<Exit> {
        let control = context.control()?;
        let model = control.model()?;
        let mut maps = control.maps()?;
        let interfaces = self.selection.of(&model)?;
        let strays =
            if self.selection.device.is_none() { control.strays(&model)? } else { Vec::new() };
        let seen: Vec<_> = interfaces
            .into_iter()
            .map(|interface| look(&control, maps.as_ref(), &model, interface))
            .collect::<Result<_>>()?;
        let slots = seen.iter().map(|one| one.interface.slot);
        let survey = maps.as_mut().map(|maps| maps.survey(slots)).transpose()?.unwrap_or_default();
        let waiting = control.waiting()?;
        if self.output.output == Format::Table {
            output::lines(model.is_panicking.then(|| panic_text(&model)))?;
            output::lines(waiting.as_ref().map(confirm::text))?;
        }
        match self.output.output {
            Format::Json => {
                let mut document = document::document(&model, &seen, maps.as_ref(), &survey)?;
                document["StraySlots"] = json!(strays);
                document["Pending"] = waiting.as_ref().map_or(Value::Null, confirm::document);
                document["Panic"] = json!(model.is_panicking);
                document["ManagementNetworks"] = json!(model.management);
                output::value(&document)?;
            }
            Format::Table if seen.is_empty() && strays.is_empty() => {
                output::lines(["nothing is attached"])?;
            }
            Format::Table => {
                table(&model, &seen, maps.as_ref(), &survey)?;
                output::lines(strays.iter().map(|slot| {
                    format!(
                        "slot {slot}: enforcing, but not stored: restore the store, or \
                         `secgroup detach --all`"
                    )
                }))?;
            }
        }
        Ok(if seen.is_empty() && strays.is_empty() { Exit::NotFound } else { Exit::Done })
    }
}

fn look<'a>(
    control: &Control,
    maps: Option<&Maps>,
    model: &Model,
    interface: &'a Interface,
) -> Result<Seen<'a>> {
    let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
    let mut seen = Seen {
        interface,
        state: "device-missing",
        hook: None,
        why: String::new(),
        rules: groups.map(|group| group.rules.len()).sum(),
        memory: match maps {
            Some(maps) => maps.policy_memory(interface.slot)?,
            None => None,
        },
        untracked: Vec::new(),
        addresses: inside(interface)?,
    };
    let Some(device) = device::lookup(interface.netns.as_deref(), &interface.device)? else {
        return Ok(seen);
    };
    let pins = control.pins();
    seen.hook = attached::hook(pins, interface, &device)?;
    let active = maps.map_or(Ok(Active::default()), |maps| maps.active(interface.slot))?;
    let families =
        [(Family::Ipv4, active.has_untracked(true)), (Family::Ipv6, active.has_untracked(false))];
    let marked = families.into_iter().filter(|(_, is_marked)| *is_marked);
    seen.untracked = marked.map(|(family, _)| family.name()).collect();
    let complete = active.is_present() && attached::transmits(pins, interface, &device)?;
    seen.state = match seen.hook {
        Some(hook) if complete => {
            seen.why = hook::why(interface.hook, hook, &device);
            if let Some(other) = attached::preceding_filter(pins, interface, &device)? {
                seen.why += &format!("; but {other} is asked first");
            }
            if active.is_audit() { "auditing" } else { "enforcing" }
        }
        _ => "not-enforcing",
    };
    Ok(seen)
}

/// With the way out of it.
fn panic_text(model: &Model) -> String {
    format!("{}; `secgroup panic --off` ends it", panic::text(&model.management))
}

fn group_names(model: &Model, interface: &Interface) -> Vec<String> {
    let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
    groups.map(|group| group.name.clone()).collect()
}

fn table(model: &Model, seen: &[Seen<'_>], maps: Option<&Maps>, survey: &Survey) -> Result<()> {
    output::table(
        [
            "INTERFACE",
            "STATE",
            "HOOK",
            "ORIENTATION",
            "TCP",
            "PICK-UP",
            "TRACKING",
            "REVALIDATE",
            "GROUPS",
            "RULES",
            "POLICY",
            "BYTES A RULE",
            "WHY THIS HOOK",
        ],
        &["RULES", "POLICY", "BYTES A RULE"],
        seen.iter().map(|one| {
            [
                one.interface.label(),
                one.state.to_owned(),
                one.hook.map_or("-", Hook::name).to_owned(),
                one.interface.orientation.name().to_owned(),
                one.interface.tcp.name().to_owned(),
                if one.interface.picks_up() { "on" } else { "off" }.to_owned(),
                one.interface.tracking.name().to_owned(),
                if one.interface.revalidate { "on" } else { "off" }.to_owned(),
                group_names(model, one.interface).join(","),
                one.rules.to_string(),
                one.memory.map_or_else(|| "-".to_owned(), size),
                one.bytes_per_rule().map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
                output::or_dash(&one.why),
            ]
        }),
    )?;
    let Some(maps) = maps else { return Ok(()) };
    output::lines([""])?;
    output::table(
        ["FLOW TABLE", "FAMILY", "ENTRIES", "CAPACITY", "FULL", "BYTES EACH", "MEMORY"],
        &["ENTRIES", "CAPACITY", "FULL", "BYTES EACH", "MEMORY"],
        maps.occupancy(&survey.flows).into_iter().map(|table| {
            [
                table.tier.name().to_owned(),
                if table.is_v6 { "ipv6" } else { "ipv4" }.to_owned(),
                table.entries.to_string(),
                table.capacity.to_string(),
                format!("{}%", table.entries * 100 / u64::from(table.capacity.max(1))),
                table.bytes_per_entry().map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
                table.memory.map_or_else(|| "-".to_owned(), size),
            ]
        }),
    )?;
    let RuleCounters { entries, capacity, memory } = maps.rule_counter_usage()?;
    let memory = memory.map_or_else(String::new, |bytes| {
        format!("; {} bytes each, {} in all", RULE_COUNTER, size(bytes))
    });
    output::lines([format!("rule counters: {entries} of {capacity}{memory}")])?;
    for one in seen.iter().filter(|one| !one.untracked.is_empty()) {
        output::lines([format!(
            "{}: rules allow some {} traffic from anywhere with all its answers: no flows for it",
            one.interface.label(),
            one.untracked.join(" and ")
        )])?;
    }
    for one in seen {
        let evicted = survey.evicted.get(&one.interface.slot).copied().unwrap_or_default();
        if evicted > 0 {
            output::lines([format!(
                "{}: {evicted} unproven flows gave way to newer ones",
                one.interface.label()
            )])?;
        }
        let events = maps.events(one.interface.slot)?;
        let spared = events[&Event::Spared];
        if spared > 0 {
            output::lines([format!(
                "{}: {spared} packets that are counted as dropped have passed, in audit",
                one.interface.label()
            )])?;
        }
        let unpromoted = events[&Event::Unpromoted];
        if unpromoted > 0 {
            output::lines([format!(
                "{}: {unpromoted} times a proven flow found its table full and stayed among the new",
                one.interface.label()
            )])?;
        }
    }
    Ok(())
}

/// In KiB, or in MiB with one digit behind the point.
fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{} KiB", bytes.div_ceil(1 << 10));
    }
    let tenths = (u128::from(bytes) * 10 + (1 << 19)) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_kibibytes_or_mebibytes() {
        for (bytes, text) in [
            (0, "0 KiB"),
            (1, "1 KiB"),
            (24_680, "25 KiB"),
            ((1 << 20) - 1, "1024 KiB"),
            (1 << 20, "1.0 MiB"),
            (23_068_672, "22.0 MiB"),
            (1_625_292, "1.5 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
