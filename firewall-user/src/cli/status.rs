//! `secgroup status`

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::Args;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::Table;
use firewall_ebpf::abi::interface::{NonIp, Orientation, TcpChecks};
use ipnet::IpNet;

use super::confirm;
use super::failure::one_line;
use super::interfaces::Selection;
use super::interrupt::Interrupt;
use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit, members, panic};
use crate::control::Control;
use crate::control::confirm::UnconfirmedChange;
use crate::control::enforcement::{Enforcement, State};
use crate::dataplane::flows::list::Occupancy;
use crate::dataplane::flows::survey::Survey;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::hooks::programs;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::{RULE_COUNTER, RuleCounters};
use crate::model::{Family, Interface, Mode, Model, Peer, Tracking, is_one_address};
use crate::observe::status::{InterfaceStatus, Reading, StatusDocument, blocks_in_force, inspect};

mod place;

use place::{acl_text, place_text, unattached_text};

#[derive(Debug, Args)]
#[command(after_help = "\
States of an interface:
  enforcing       its programs run and its policy is active
  auditing        as enforcing, but packets to drop are counted and passed
  not-enforcing   it is in the store but not in the kernel: `secgroup reconcile` attaches it
  device-missing  its device does not exist now, so no packet passes
A device that was renamed or moved to another network namespace keeps its programs and its state; a line
below the table has its present name.

Exit code 3: nothing is attached.
Exit code 5: an interface is not-enforcing.")]
pub(super) struct Command {
    #[command(flatten)]
    selection: Selection,
    /// Print again whenever a state, a setting or the unconfirmed change differs, until interrupted; with
    /// --output json, one object a line
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// Time between two readings of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        self.read_and_print(context).context("status")
    }

    fn read_and_print(self, context: &Context) -> Result<Exit> {
        let Self { selection, watch, output: Output { output } } = self;
        if !watch {
            let mut exit = Exit::Done;
            read(context, &selection, &mut |overview| {
                exit = overview.exit();
                overview.print(output, false)
            })?;
            return Ok(exit);
        }
        let mut interrupt = Interrupt::new()?;
        let (mut printed, mut reported) = (None, String::new());
        loop {
            let shown = read(context, &selection, &mut |overview| {
                let now = Some(overview.watched());
                if printed != now {
                    if output == Format::Table {
                        let time = humantime::format_rfc3339_seconds(SystemTime::now());
                        let gap = if printed.is_some() { "\n" } else { "" };
                        output::lines([format!("{gap}{time}")])?;
                    }
                    overview.print(output, true)?;
                    printed = now;
                }
                Ok(())
            });
            match shown {
                // What was read once may be unreadable for a time.
                Err(error) if printed.is_some() && !error.is::<std::io::Error>() => {
                    let text = format!("{error:#}");
                    if text != reported {
                        eprintln!("secgroup: status: {}", one_line(&text));
                        reported = text;
                        printed = Some(String::new());
                    }
                }
                shown => {
                    shown?;
                    reported.clear();
                }
            }
            if interrupt.wait(WATCH_INTERVAL) {
                return Ok(Exit::Done);
            }
        }
    }
}

/// Everything that is printed.
struct Overview<'a> {
    control: &'a Control,
    model: &'a Model,
    statuses: Vec<InterfaceStatus<'a>>,
    maps: Option<&'a mut Maps>,
    strays: Vec<u16>,
    change: Option<UnconfirmedChange>,
}

/// Reads the chosen interfaces and hands them to `then`.
fn read(
    context: &Context,
    selection: &Selection,
    then: &mut dyn FnMut(Overview<'_>) -> Result<()>,
) -> Result<()> {
    let control = context.control_reading()?;
    let model = control.model()?;
    let mut maps = control.maps()?;
    let interfaces = selection.of(control.pins(), &model)?;
    let strays = if selection.device.is_none() { control.strays(&model)? } else { Vec::new() };
    let statuses: Vec<_> = interfaces
        .into_iter()
        .map(|interface| inspect(&control, maps.as_ref(), &model, interface))
        .collect::<Result<_>>()?;
    let change = control.unconfirmed_change()?;
    let (control, model, maps) = (&control, &model, maps.as_mut());
    then(Overview { control, model, statuses, maps, strays, change })
}

impl Overview<'_> {
    fn exit(&self) -> Exit {
        let is_lost = |one: &InterfaceStatus<'_>| one.enforcement.state == State::NotEnforcing;
        if self.statuses.iter().any(is_lost) {
            Exit::NotEnforced
        } else if self.statuses.is_empty() && self.strays.is_empty() {
            Exit::NotFound
        } else {
            Exit::Done
        }
    }

    /// What `--watch` compares: all but counts and times.
    fn watched(&self) -> String {
        let Self { model, statuses, strays, change, .. } = self;
        let interfaces: Vec<_> = statuses
            .iter()
            .map(|one| {
                let found = &one.enforcement;
                let remarks = found.remarks(one.interface);
                let Enforcement { state, hook, hook_reason, missing, unpinned, .. } = found;
                let stored = (one.interface, &one.addresses, &one.without_address);
                (stored, state, hook, hook_reason, missing, unpinned, remarks)
            })
            .collect();
        let change = change.as_ref().map(|change| &change.what);
        format!(
            "{interfaces:?} {:?} {strays:?} {change:?} {} {:?}",
            model.unattached, model.is_panicking, model.management
        )
    }

    fn print(self, format: Format, is_compact: bool) -> Result<()> {
        let Self { control, model, statuses, mut maps, strays, change } = self;
        let slots = statuses.iter().map(|one| one.interface.slot);
        let survey = maps.as_mut().map(|maps| maps.survey(slots)).transpose()?.unwrap_or_default();
        let maps = maps.as_deref();
        if format == Format::Json {
            let reading = Reading {
                model,
                statuses: &statuses,
                maps,
                survey: &survey,
                strays,
                change: change.as_ref(),
            };
            let document = StatusDocument::new(reading)?;
            return if is_compact { output::compact(&document) } else { output::value(&document) };
        }
        output::lines(model.is_panicking.then(|| panic_text(model)))?;
        output::lines(change.as_ref().map(confirm::text))?;
        if statuses.is_empty() && strays.is_empty() {
            output::lines(["nothing is attached"])?;
            return output::lines(unattached_text(model));
        }
        print(model, &statuses, maps, &survey)?;
        output::lines(strays.iter().map(|slot| {
            format!(
                "slot {slot}: enforcing, but not in the store, which may be an earlier copy: restore the \
                 later one, or run `secgroup reconcile`, which detaches the slot"
            )
        }))?;
        output::lines(unattached_text(model))?;
        statuses.iter().try_for_each(|one| output::lines(losses(one, control)))
    }
}

/// What is wrong with an interface's enforcement, and what to do.
fn losses(one: &InterfaceStatus<'_>, control: &Control) -> Vec<String> {
    let label = one.interface.label();
    let Enforcement { unpinned, .. } = &one.enforcement;
    let mut lines = Vec::new();
    if let Some(loss) = one.enforcement.loss() {
        let what = if unpinned.is_empty() { ": `secgroup reconcile` attaches it" } else { "" };
        lines.push(format!("{label}: not enforced: {loss}{what}"));
    }
    if !unpinned.is_empty() {
        let (list, hint) = (programs::list(unpinned), programs::hint(control.pins()));
        lines.push(format!("{label}: it has programs of secgroup without pins: {list}; {hint}"));
    }
    lines
}

/// What passes in the panic, and how to end it.
fn panic_text(model: &Model) -> String {
    format!("{}; `secgroup panic --off` ends it", panic::text(&model.management))
}

fn group_names(model: &Model, interface: &Interface) -> Vec<String> {
    let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
    groups.map(|group| group.name.clone()).collect()
}

fn print(
    model: &Model,
    statuses: &[InterfaceStatus<'_>],
    maps: Option<&Maps>,
    survey: &Survey,
) -> Result<()> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    table(
        [
            Column::text("INTERFACE"),
            Column::text("STATE"),
            Column::text("HOOK").dropped(4),
            Column::number("RULES").dropped(3),
            Column::number("POLICY").dropped(2),
            Column::number("BYTES/RULE").dropped(1),
            Column::text("GROUPS"),
        ],
        statuses.iter().map(|one| {
            [
                one.interface.label(),
                one.enforcement.state.name().to_owned(),
                one.enforcement.hook.map_or("-", Hook::name).to_owned(),
                one.rules.to_string(),
                or_dash(one.memory.map(output::size)),
                or_dash(one.bytes_per_rule().map(|bytes| bytes.to_string())),
                group_names(model, one.interface).join(","),
            ]
        }),
    )?;
    for one in statuses {
        let label = one.interface.label();
        output::lines([format!("{label}: {}", place_text(model, one.interface))])?;
        let remarks = one.enforcement.remarks(one.interface);
        output::lines(remarks.into_iter().map(|remark| format!("{label}: {remark}")))?;
        let Enforcement { hook, hook_reason, .. } = &one.enforcement;
        let is_shown = one.enforcement.state.is_enforced() && !hook_reason.is_empty();
        if let Some(hook) = hook.filter(|_| is_shown) {
            output::lines([format!("{label}: hook {}: {hook_reason}", hook.name())])?;
        }
        let options = options(one.interface);
        if !options.is_empty() {
            output::lines([format!("{label}: options {}", options.join(" "))])?;
        }
        output::lines(acl_text(model, one.interface).map(|text| format!("{label}: {text}")))?;
        output::lines(port_text(one.interface).map(|text| format!("{label}: {text}")))?;
        output::lines(members::text(one.interface, &one.without_address))?;
    }
    let Some(maps) = maps else { return Ok(()) };
    output::lines([""])?;
    let tables = maps.occupancy(&survey.flows)?;
    table(
        [
            Column::text("INTERFACE"),
            Column::number("NEW FLOWS"),
            Column::number("UDP"),
            Column::number("TCP"),
            Column::text("FULLEST TABLE"),
            Column::number("MEMORY").dropped(1),
        ],
        statuses.iter().filter_map(|one| {
            let slot = one.interface.slot;
            let own: Vec<_> = tables.iter().filter(|table| table.slot == slot).collect();
            let fullest = own.iter().max_by_key(|table| table.per_mille())?;
            let flows = |of: Table| {
                let tables = own.iter().filter(|table| table.table == of);
                tables.map(|table| table.entries).sum::<u64>().to_string()
            };
            let memory = maps.interface_tables(slot).ok().flatten().and_then(|own| own.memory());
            Some([
                one.interface.label(),
                flows(Table::New),
                flows(Table::Udp),
                flows(Table::Tcp),
                described(fullest),
                or_dash(memory.map(output::size)),
            ])
        }),
    )?;
    output::lines(blocks_text(model))?;
    let RuleCounters { entries, capacity, memory } = maps.rule_counter_usage()?;
    let memory = memory.map_or_else(String::new, |bytes| {
        format!("; {} bytes each, {} in all", RULE_COUNTER, output::size(bytes))
    });
    output::lines([format!("rule counters: {entries} of {capacity}{memory}")])?;
    output::lines(deny_text(maps)?)?;
    statuses.iter().try_for_each(|one| output::lines(notes(one, maps, survey)?))
}

/// `blocks: 3 (1 of a prefix list: 1000000 networks)`; nothing without one.
fn blocks_text(model: &Model) -> Option<String> {
    let (mut count, mut lists, mut networks) = (0, 0, 0);
    for block in blocks_in_force(model) {
        count += 1;
        if let Peer::PrefixList(id) = &block.target {
            lists += 1;
            networks += model.prefix_lists.get(id).map_or(0, |list| list.entries.len());
        }
    }
    let of_lists = match lists {
        0 => String::new(),
        1 => format!(" (1 of a prefix list: {networks} networks)"),
        _ => format!(" ({lists} of prefix lists: {networks} networks)"),
    };
    (count > 0).then(|| format!("blocks: {count}{of_lists}"))
}

/// The memory of network ACLs and blocks; nothing where there are none.
fn deny_text(maps: &Maps) -> Result<Option<String>> {
    let ((filters, of_filters), of_blocks) = (maps.filter_usage()?, maps.block_memory()?);
    let sized =
        |memory: Option<u64>| memory.map_or_else(|| "of unknown size".to_owned(), output::size);
    let filters =
        (filters > 0).then(|| format!("{filters} tables of network ACLs, {}", sized(of_filters)));
    let blocks = maps.blocks_any()?.then(|| format!("blocked networks, {}", sized(of_blocks)));
    let all: Vec<String> = filters.into_iter().chain(blocks).collect();
    Ok((!all.is_empty()).then(|| all.join("; ")))
}

/// How full a table is: `12.5% of 65536 (tcp, ipv4)`.
fn described(table: &Occupancy) -> String {
    let family = if table.is_v6 { Family::Ipv6 } else { Family::Ipv4 };
    let (tenths, Occupancy { capacity, table, .. }) = (table.per_mille(), table);
    let (whole, tenth) = (tenths / 10, tenths % 10);
    format!("{whole}.{tenth}% of {capacity} ({}, {})", table.name(), family.name())
}

/// The options of `secgroup attach` that differ from its defaults.
fn options(interface: &Interface) -> Vec<String> {
    let switch = |is_on: bool| if is_on { "on" } else { "off" };
    let Interface {
        orientation,
        non_ip,
        tcp,
        tcp_loose,
        tracking,
        mode,
        revalidate,
        addresses,
        port,
        ..
    } = interface;
    let all = [
        ("orientation", orientation.name(), Orientation::Host.name()),
        ("non-ip", non_ip.name(), NonIp::default().name()),
        ("tcp", tcp.name(), TcpChecks::default().name()),
        ("tcp-loose", switch(*tcp_loose), switch(true)),
        ("tracking", tracking.name(), Tracking::default().name()),
        ("mode", mode.name(), Mode::default().name()),
        ("revalidate", switch(*revalidate), switch(false)),
        ("source-dest-check", switch(port.source_dest_check), switch(true)),
        ("guest-router", switch(port.router), switch(false)),
    ];
    let others = all.into_iter().filter(|(_, value, default)| value != default);
    let options = others.map(|(name, value, _)| format!("--{name} {value}"));
    let timeouts = interface.timeouts.iter();
    let timeouts =
        timeouts.map(|(state, seconds)| format!("--timeout {}={seconds}", state.timeout_name()));
    let ether_types = interface.ether_types.iter().map(|one| format!("--ether-type {one}"));
    let addresses = addresses.iter().map(|network| format!("--address {}", own_text(network)));
    let allowed = port.allowed.iter();
    let allowed = allowed.map(|network| format!("--allow-address {}", own_text(network)));
    let limits = [
        ("max-flows", interface.max_flows),
        ("max-flows-per-source", interface.max_flows_per_source),
    ];
    let limits = limits.into_iter().filter_map(|(name, limit)| Some((name, limit?)));
    let limits = limits.map(|(name, limit)| format!("--{name} {limit}"));
    let mac = port.mac.map(|mac| format!("--mac {mac}"));
    let options = options.chain(ether_types);
    options.chain(limits).chain(timeouts).chain(addresses).chain(allowed).chain(mac).collect()
}

/// A network, or the one address that it has.
fn own_text(network: &IpNet) -> String {
    if is_one_address(network) { network.addr().to_string() } else { network.to_string() }
}

/// Whether a guest's addresses are checked; nothing about a host.
fn port_text(interface: &Interface) -> Option<String> {
    if interface.orientation == Orientation::Host {
        return None;
    }
    let addresses = if interface.checks_addresses() {
        "on"
    } else if interface.port.source_dest_check {
        "off: no address is declared (--address)"
    } else {
        "off"
    };
    let mac = if interface.port.mac.is_some() {
        ""
    } else {
        ", and the MAC address is not checked (no --mac)"
    };
    Some(format!("source/destination check {addresses}{mac}"))
}

/// The lines below the tables.
fn notes(one: &InterfaceStatus<'_>, maps: &Maps, survey: &Survey) -> Result<Vec<String>> {
    let label = one.interface.label();
    let mut notes = Vec::new();
    if !one.untracked.is_empty() {
        notes.push(format!(
            "{label}: some {} traffic is untracked: rules allow it and its replies from anywhere",
            one.untracked.join(" and ")
        ));
    }
    let evicted = survey.evicted.get(&one.interface.slot).copied().unwrap_or_default();
    if evicted > 0 {
        notes.push(format!("{label}: {evicted} unproven flows were evicted by newer ones"));
    }
    let events = maps.events(one.interface.slot)?;
    let audited = events[&Event::AuditPassed];
    if audited > 0 {
        notes.push(format!(
            "{label}: audit mode passed {audited} packets that it counted as dropped"
        ));
    }
    let unpromoted = events[&Event::Unpromoted];
    if unpromoted > 0 {
        notes.push(format!(
            "{label}: {unpromoted} times a flow could not move to the table of proven flows, because \
             it was full"
        ));
    }
    let limited = events[&Event::SourceLimited];
    if limited > 0 {
        notes.push(format!(
            "{label}: {limited} times a flow could not move to the table of proven flows, because its \
             source has as many as --max-flows-per-source allows"
        ));
    }
    Ok(notes)
}
