//! `secgroup simulate`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::output::{self, Format, Output};
use super::proposal::Proposal;
use super::rule::hits;
use super::since::{self, Since};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::clock::Clocks;
use crate::model::rfc3339;
use crate::observe::hits::Hits;
use crate::observe::query::{Query, Stored, protocol_name};
use crate::observe::simulate::document::{
    ConnectionDocument, CoverageDocument, DenialDocument, MissDocument, SimulationDocument,
    UntrackedRule,
};
use crate::observe::simulate::{Known, Ruleset, Simulation};
use crate::observe::untracked;

/// Say what a document, or the staged changes, would do to the connections that were seen.
///
/// Compared are live flows, the dropped packets of the journal, files of flow logs, and captures. Printed are connections
/// that passed and that the proposed rules, network ACLs and blocks do not let pass; rules whose packets pass without a
/// flow, and of which all or some would be dropped; dropped connections that would pass; proposed rules that allow
/// nothing of what was seen; and what was not seen.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup simulate groups.json
  secgroup simulate groups.json --since 2h --interface eth0
  secgroup simulate --staged --journal --output json
  secgroup simulate groups.json --flow-log /var/log/secgroup/AWSLogs --since 30d

Exit code 4: a connection would break, or untracked packets of this time would be dropped.")]
pub(super) struct Command {
    #[command(flatten)]
    proposal: Proposal,
    /// Records and lines of flow logs from then on: 30m, 2h, 7d, or a time as of `secgroup drops`
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = since::parse)]
    since: Since,
    /// Compare live flows [default: with --journal, if no source is named]
    #[arg(long, help_heading = "Sources")]
    live: bool,
    /// Compare the dropped packets of the journal
    #[arg(long, help_heading = "Sources")]
    journal: bool,
    /// Compare a file of flow logs, or those below a directory; may be repeated
    #[arg(long, value_name = "PATH", help_heading = "Sources")]
    flow_log: Vec<PathBuf>,
    /// Compare the connections that a pcap or pcapng file shows the opening of; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Sources")]
    pcap: Vec<PathBuf>,
    /// The most connections that are listed of each kind
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    query: Query,
    #[command(flatten)]
    output: Output,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let (format, limit, text) = (self.output.output, self.limit, self.proposal.text());
        let document = self.simulate(context).with_context(|| format!("simulate {text}"))?;
        // Times of one form have the order of their texts.
        let is_used = |one: &UntrackedRule| one.last_hit.as_ref() >= Some(&document.coverage.since);
        let breaks = !document.breaks.is_empty() || document.untracked.iter().any(is_used);
        match format {
            Format::Json => output::value(&document)?,
            Format::Table => print(&document, limit)?,
        }
        Ok(if breaks { Exit::Differs } else { Exit::Done })
    }

    fn simulate(self, context: &Context) -> Result<SimulationDocument> {
        let Self { proposal, since, live, journal, flow_log, pcap, query, .. } = self;
        let control = context.control_reading()?;
        let model = control.model()?;
        let proposed = proposal.read(&control, &model)?;
        let query = query.check(&Stored { control: &control, model: &model })?;
        let now = Clocks::now().moment;
        let since = since.before(now.wall)?;
        let is_default = !live && !journal && flow_log.is_empty() && pcap.is_empty();
        let addresses = control.addresses(&model)?;
        let today = Ruleset::new(&model, &addresses, now.boottime);
        let after = Ruleset::new(&proposed.model, &addresses, now.boottime);
        let mut simulation = Simulation::new(&today, &after);
        let mut coverage = CoverageDocument {
            since: rfc3339(since),
            until: rfc3339(now.wall),
            is_filtered: !query.is_empty(),
            ..CoverageDocument::default()
        };
        if live || is_default {
            coverage.live_flows = Some(simulation.add_live(&control, &model, &query)?);
        }
        if journal || is_default {
            let state_dir = &control.paths().state_dir;
            coverage.journal = Some(simulation.add_journal(state_dir, since, &query)?);
        }
        if !flow_log.is_empty() {
            let known = Known::new(&model, &addresses);
            coverage.flow_logs = Some(simulation.add_flow_logs(&flow_log, since, &query, &known)?);
        }
        for path in &pcap {
            let names = (&model, &addresses);
            let packets = simulation.add_capture(path, names, (since, &query))?;
            let known = coverage.captures.get_or_insert_default();
            known.opening_packets += packets.opening;
            known.other_packets += packets.others;
            known.packets_of_other_addresses += packets.elsewhere;
        }
        // To count hits makes the state directory.
        let hits = match control.store().is_absent() {
            true => Hits::default(),
            false => hits::read(&control, &model)?,
        };
        simulation.add_used(hits.since(since));
        let untracked =
            untracked::ended(&model, &proposed.model, (&addresses, now.boottime), &query);
        coverage.hits_as_of = hits.as_of().map(rfc3339);
        let untracked = untracked.into_iter().filter_map(|(ended, interfaces)| {
            let known = hits.of(ended.0).copied().unwrap_or_default();
            UntrackedRule::new((&today, &after), ended, interfaces, &known)
        });
        let untracked = untracked.collect();
        Ok(SimulationDocument::new(&simulation.compare(), untracked, coverage))
    }
}

fn print(document: &SimulationDocument, limit: usize) -> Result<()> {
    let SimulationDocument { breaks, untracked, passes, unused_rules, coverage, .. } = document;
    output::lines([heading(breaks, "would break")])?;
    connections(breaks, limit)?;
    if !untracked.is_empty() {
        let count = output::many(untracked.len(), "rule");
        output::lines([format!(
            "packets of {count} pass without a flow (untracked), and all or some would be dropped: open connections end \
             at once"
        )])?;
        output::lines(untracked.iter().take(limit).map(untracked_line))?;
        cut(untracked.len(), limit)?;
    }
    output::lines([heading(passes, "dropped now would pass")])?;
    connections(passes, limit)?;
    if let Some(unused_rules) = unused_rules {
        output::lines([format!(
            "{} of what was seen",
            if unused_rules.len() == 1 {
                "1 proposed rule allows nothing".to_owned()
            } else {
                format!("{} proposed rules allow nothing", unused_rules.len())
            }
        )])?;
        let unused = unused_rules.iter().take(limit);
        output::lines(unused.map(|one| format!("  {} {}", one.name.group_name, one.rule)))?;
        cut(unused_rules.len(), limit)?;
    }
    output::lines(coverage_lines(coverage))
}

fn untracked_line(one: &UntrackedRule) -> String {
    let UntrackedRule { name, rule, interfaces, packets, last_hit, denied_by } = one;
    let denied_by = denied_by.as_ref().map_or_else(String::new, |by| {
        let what = if by.is_answer { "their answers" } else { "them" };
        format!("; {} denies {what}", by.entry.place())
    });
    format!(
        "  {} {} {rule} on {}: {} so far, last hit {}{denied_by}",
        name.group_name,
        name.security_group_rule_id,
        interfaces.join(" "),
        output::many(*packets, "packet"),
        last_hit.as_deref().unwrap_or("never"),
    )
}

fn heading(list: &[ConnectionDocument], what: &str) -> String {
    let connections: u64 = list.iter().map(|one| one.connections).sum();
    let cut: u64 = list.iter().filter(|one| one.is_cut).map(|one| one.connections).sum();
    let live: u64 =
        list.iter().filter(|one| one.seen_in == "live").map(|one| one.connections).sum();
    let note = match (cut, live) {
        (0, 0) => String::new(),
        (0, live) => format!(" ({live} live now: not before they end, as in EC2)"),
        (cut, live) if cut == live => format!(" ({cut} live now: at once)"),
        (cut, live) => {
            format!(" ({live} live now: {cut} at once, the others not before they end, as in EC2)")
        }
    };
    format!("{} {what}{note}", output::many(connections, "connection"))
}

fn connections(list: &[ConnectionDocument], limit: usize) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let rows = list.iter().take(limit).map(|one| {
        let place = if one.device.is_empty() { &one.network_interface_id } else { &one.device };
        let label = match &one.netns {
            Some(netns) => format!("{netns}/{place}"),
            None => place.clone(),
        };
        [
            label,
            one.direction.to_owned(),
            protocol_name(one.protocol),
            one.source.clone(),
            one.destination.clone(),
            port(one),
            one.connections.to_string(),
            one.records.to_string(),
            one.packets.to_string(),
            one.seen_in.to_owned(),
            one.rule
                .as_ref()
                .map_or_else(|| "-".to_owned(), |rule| rule.security_group_rule_id.clone()),
            one.denied_by.as_ref().map_or_else(|| "-".to_owned(), denial),
            one.nearest_miss.as_ref().map_or_else(|| "-".to_owned(), miss),
        ]
    });
    let has_repeated = list.iter().any(|one| one.records != one.connections);
    let has_denial = list.iter().any(|one| one.denied_by.is_some());
    let has_miss = list.iter().any(|one| one.nearest_miss.is_some());
    table(
        [
            Column::text("INTERFACE"),
            Column::text("DIRECTION").dropped(4),
            Column::text("PROTOCOL"),
            Column::text("SOURCE"),
            Column::text("DESTINATION"),
            Column::text("PORT"),
            Column::number("COUNT"),
            Column::number("RECORDS").dropped(3).only_if(has_repeated),
            Column::number("PACKETS").dropped(3),
            Column::text("SEEN").dropped(5),
            Column::text("RULE").dropped(2),
            Column::text("DENIED BY").only_if(has_denial),
            Column::text("NEAREST MISS").dropped(1).only_if(has_miss),
        ],
        rows,
    )?;
    cut(list.len(), limit)
}

fn cut(length: usize, limit: usize) -> Result<()> {
    if length > limit {
        output::lines([format!("  and {} more (--limit)", length - limit)])?;
    }
    Ok(())
}

fn port(one: &ConnectionDocument) -> String {
    match (one.port, one.service, one.icmp_type.zip(one.icmp_code)) {
        (Some(port), Some(service), _) => format!("{port} ({service})"),
        (Some(port), None, _) => port.to_string(),
        (None, _, Some((kind, code))) => format!("{kind}/{code}"),
        (None, _, None) => "-".to_owned(),
    }
}

fn miss(miss: &MissDocument) -> String {
    let MissDocument { name, field, rule_value, packet_value } = miss;
    format!("{}: {field} is {packet_value}, not {rule_value}", name.group_name)
}

fn denial(denial: &DenialDocument) -> String {
    let DenialDocument { entry, is_answer } = denial;
    let place = entry.place();
    if *is_answer { format!("{place} (answers)") } else { place }
}

fn coverage_lines(coverage: &CoverageDocument) -> Vec<String> {
    let mut lines = vec![format!(
        "compared {}, since {}",
        output::many(coverage.compared, "different connection"),
        coverage.since
    )];
    if let Some(time) = &coverage.hits_as_of {
        lines.push(format!("  hits of rules: as of {time}"));
    }
    if let Some(live) = coverage.live_flows {
        lines.push(format!("  live flows: {live}"));
    }
    if let Some(journal) = &coverage.journal {
        lines.push(format!(
            "  journal: {}, {} of {} dropped packets lost, oldest {}",
            output::many(journal.records, "record"),
            journal.lost,
            journal.seen,
            journal.oldest.as_deref().unwrap_or("-")
        ));
    }
    if let Some(logs) = &coverage.flow_logs {
        lines.push(format!(
            "  flow logs: {}, {}, {} without packets, {}, {} to {}",
            output::many(logs.files, "file"),
            output::many(logs.records, "record"),
            output::many(logs.without_packets, "line"),
            output::many(logs.damaged, "damaged line"),
            logs.oldest.as_deref().unwrap_or("-"),
            logs.newest.as_deref().unwrap_or("-")
        ));
    }
    if let Some(captures) = &coverage.captures {
        lines.push(format!(
            "  captures: {} packets that open a connection, {} others, {} of addresses that no interface has",
            captures.opening_packets, captures.other_packets, captures.packets_of_other_addresses
        ));
    }
    let without_direction = coverage.flow_logs.as_ref().map_or(0, |logs| logs.without_direction);
    for (count, what, which) in [
        (without_direction, "record", "whose direction cannot be told"),
        (coverage.passes_already, "dropped connection", "that would pass today already"),
        (coverage.broken_already, "connection", "that passed and would not pass anew today"),
        (
            coverage.packets_not_simulated,
            "packet",
            "that neither rules, network ACLs nor blocks decided about",
        ),
        (coverage.packets_of_other_interfaces, "packet", "of interfaces that are not attached"),
    ] {
        if count > 0 {
            lines.push(format!("  not listed: {} {which}", output::many(count, what)));
        }
    }
    lines.extend(coverage.notes.iter().map(|note| format!("note: {note}")));
    lines
}
