//! What rules are used for: `secgroup rule list --hits`, `rule unused`, `rule users` and `rule remove --preview`.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::list::columns_of;
use crate::cli::failure::UsageError;
use crate::cli::flows::print;
use crate::cli::output::{self, Format, Output, many, short_time};
use crate::cli::since::{self, Since};
use crate::cli::table::{Column, table};
use crate::cli::{Context, Exit, group};
use crate::clock::Clocks;
use crate::control::{Control, NothingAttached};
use crate::model::{Change, Error, Group, Model, Rule, RuleId, sorted_rules};
use crate::observe::SCHEMA_VERSION;
use crate::observe::flows::document::FlowDocument;
use crate::observe::flows::live_flows;
use crate::observe::flows::totals::{By, totals};
use crate::observe::hits::document::{
    RemovalDocument, RemovalPreview, RuleHitsDocument, RuleHitsList, RuleUsers, UnusedRules,
};
use crate::observe::hits::removal::preview;
use crate::observe::hits::{Hits, HitsError};
use crate::observe::query::Checked;
use crate::observe::untracked;

/// Peers that a preview names.
const PREVIEWED: usize = 5;

#[derive(Debug, Args)]
pub(in crate::cli) struct Unused {
    /// Group by id or name [default: all groups]
    group: Option<String>,
    /// Since when no packet came: 30d, 12h, or a time as of `secgroup drops`; all of it must have been watched
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    since: Since,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Users {
    /// Id of the rule, also of a deleted one
    #[arg(value_name = "RULE-ID")]
    rule: RuleId,
    /// Number of flows, and of peers
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    output: Output,
}

/// The hits as of now, of a command that reads: where they cannot be written, as they are.
pub(in crate::cli) fn read(control: &Control, model: &Model) -> Result<Hits> {
    match Hits::current(control, model) {
        Err(error) if error.is::<HitsError>() => {
            let hits = Hits::read(control)?;
            crate::cli::failure::warn(&error.context("the hits are those of the last reading"));
            Ok(hits)
        }
        result => result,
    }
}

/// Says as of when hits are, if not as of now: what is beside them, as flows, is of now.
pub(super) fn note_age(hits: &Hits) {
    let now = Clocks::now().moment.wall;
    if let Some(time) = hits.as_of().filter(|time| now.saturating_sub(*time) >= 1000) {
        output::note(&format!("hits are as of {}, flows as of now", ago(Some(time))));
    }
}

/// How long ago a time was, in milliseconds since 1970.
fn ago(time: Option<i64>) -> String {
    let Some(time) = time else { return "never".to_owned() };
    let passed = Clocks::now().moment.wall.saturating_sub(time).max(0) / 1000;
    format!("{} ago", short_time(u64::try_from(passed).unwrap_or(0)))
}

/// `rule list --hits`
pub(super) fn list(
    control: &Control,
    model: &Model,
    groups: &[&Group],
    format: Format,
) -> Result<()> {
    let hits = read(control, model)?;
    let rules = sorted_rules(groups.iter().copied());
    if format == Format::Json {
        return output::value(&RuleHitsList::new(&hits, rules));
    }
    table(
        [
            Column::text("RULE"),
            Column::text("GROUP").dropped(2),
            Column::text("DIRECTION").dropped(4),
            Column::text("PROTOCOL").dropped(5),
            Column::text("PORTS").dropped(6),
            Column::text("PEER").dropped(3),
            Column::number("PACKETS"),
            Column::number("BYTES"),
            Column::number("NEW FLOWS"),
            Column::number("FIRST HIT").dropped(1),
            Column::number("LAST HIT"),
        ],
        rules.into_iter().map(|(group, rule)| {
            let known = hits.of(rule.number).copied().unwrap_or_default();
            let [direction, protocol, ports, peer] = columns_of(model, rule);
            [
                rule.id.to_string(),
                model.group_label(group),
                direction,
                protocol,
                ports,
                peer,
                known.packets.to_string(),
                known.bytes.to_string(),
                known.new_flows.to_string(),
                ago(known.first),
                ago(known.last),
            ]
        }),
    )?;
    match hits.watched.periods() {
        [.., last] => {
            note_age(&hits);
            output::note(&format!(
                "watched without a gap since {}; `secgroup serve` watches all the time",
                ago(Some(last.from))
            ));
        }
        [] => output::note("nothing was watched yet: `secgroup serve` does"),
    }
    Ok(())
}

impl Unused {
    pub(super) fn run(&self, context: &Context) -> Result<Exit> {
        self.list(context).context("rule unused")?;
        Ok(Exit::Done)
    }

    fn list(&self, context: &Context) -> Result<()> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let groups = match &self.group {
            Some(word) => vec![model.group(word)?],
            None => group::stored(&control, &model),
        };
        let hits = read(&control, &model)?;
        let now = Clocks::now().moment.wall;
        let since = self.since.before(now)?;
        if since == now {
            let message = "--since is now".to_owned();
            return Err(UsageError { message, hint: "name an earlier time, as 30d or 12h" }.into());
        }
        hits.watched.require(Duration::from_millis(now.abs_diff(since)), now)?;
        let rules = sorted_rules(groups);
        let unused = UnusedRules::new(&hits, rules.iter().copied(), since);
        if self.output.output == Format::Json {
            return output::value(&unused);
        }
        let chosen: BTreeSet<&str> =
            unused.rules().iter().map(|rule| rule.security_group_rule_id.as_str()).collect();
        let rows = rules.into_iter().filter(|(_, rule)| chosen.contains(rule.id.as_str()));
        table(
            [
                Column::text("RULE"),
                Column::text("GROUP"),
                Column::text("DIRECTION"),
                Column::text("PROTOCOL"),
                Column::text("PORTS"),
                Column::text("PEER"),
                Column::number("LAST HIT"),
                Column::text("DESCRIPTION").dropped(1),
            ],
            rows.map(|(group, rule)| {
                let [direction, protocol, ports, peer] = columns_of(&model, rule);
                let last = ago(hits.of(rule.number).and_then(|known| known.last));
                let description = output::or_dash(&rule.description);
                let group = model.group_label(group);
                [rule.id.to_string(), group, direction, protocol, ports, peer, last, description]
            }),
        )?;
        if unused.younger() > 0 {
            output::note(&format!(
                "{} rules without a packet are younger than that, and not listed",
                unused.younger()
            ));
        }
        Ok(())
    }
}

impl Users {
    pub(super) fn run(&self, context: &Context) -> Result<Exit> {
        self.show(context).with_context(|| format!("rule users {}", self.rule))?;
        Ok(Exit::Done)
    }

    fn show(&self, context: &Context) -> Result<()> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let store = control.store();
        let number = store.number_of_rule(&self.rule)?;
        let number = number.ok_or_else(|| Error::RuleUnknown(self.rule.clone()))?;
        let name = store.rule_by_number(number)?;
        let name = name.ok_or_else(|| Error::RuleUnknown(self.rule.clone()))?;
        let hits = read(&control, &model)?;
        let mut flows = match live_flows(&control, &model, |flow| flow.entry.flow.rule == number) {
            Err(error) if error.is::<NothingAttached>() => Vec::new(),
            result => result?,
        };
        flows.sort_by_key(|flow| Reverse(flow.bytes()));
        let count = flows.len();
        let mut peers = totals(By::Address, &flows);
        peers.sort_by_key(|peer| Reverse(peer.bytes_of().iter().sum::<u64>()));
        let peer_count = peers.len();
        flows.truncate(self.limit);
        peers.truncate(self.limit);
        let mut rules = model.groups.values().flat_map(|group| &group.rules);
        let is_removed = !rules.any(|rule| rule.number == number);
        let known = hits.of(number);
        if self.output.output == Format::Json {
            let names = [self.rule.as_str(), name.group.as_str(), &name.group_name];
            let rule = RuleHitsDocument::of_names(names, known);
            let flows = flows.iter().map(FlowDocument::from).collect();
            return output::value(&RuleUsers::new(
                (hits.as_of(), rule),
                is_removed,
                count,
                peers,
                flows,
            ));
        }
        let deleted = if is_removed { ", deleted" } else { "" };
        let total = known.copied().unwrap_or_default();
        output::lines([
            format!("{} of group {}{deleted}", self.rule, name.group_name),
            format!(
                "{}, {}, {} opened; first hit {}, last hit {}",
                many(total.packets, "packet"),
                many(total.bytes, "byte"),
                many(total.new_flows, "flow"),
                ago(total.first),
                ago(total.last)
            ),
            format!("{} of {}", many(count, "live flow"), many(peer_count, "peer")),
        ])?;
        note_age(&hits);
        if count == 0 {
            return Ok(());
        }
        output::lines([""])?;
        print::totals("PEER", &peers)?;
        output::lines([""])?;
        print::list(&flows)
    }
}

/// `rule remove --preview`: what the removal would affect, and why it would be refused.
pub(super) fn print_preview(
    (control, model): (&Control, &Model),
    (group, rules): (&Group, &[&Rule]),
    refused: Option<&anyhow::Error>,
    format: Format,
) -> Result<()> {
    let hits = read(control, model)?;
    let numbers: BTreeSet<u32> = rules.iter().map(|rule| rule.number).collect();
    let mut removals = preview(control, model, &numbers)?;
    let mut after = model.clone();
    for rule in rules {
        after.make(Change::RemoveRule { group: group.id.clone(), rule: rule.id.clone() });
    }
    let now = Clocks::now().moment.boottime;
    let mut untracked =
        untracked::ended(model, &after, (&control.addresses(model)?, now), &Checked::default());
    let rules = rules.iter().map(|rule| {
        let removal = removals.remove(&rule.number).unwrap_or_default();
        RemovalDocument {
            hits: RuleHitsDocument::new(group, rule, hits.of(rule.number)),
            rule: model.spec_text(&rule.spec),
            flows: removal.flows,
            not_allowed_flows: removal.not_allowed,
            ending_flows: removal.ending,
            peers: removal.peers.into_iter().map(|peer| peer.key).collect(),
            untracked_interfaces: untracked.remove(&(rule.number, None)).unwrap_or_default(),
        }
    });
    let document = RemovalPreview {
        schema_version: SCHEMA_VERSION,
        as_of: hits.as_of(),
        refused: refused.map(|error| format!("{error:#}")),
        rules: rules.collect(),
    };
    if format == Format::Json {
        return output::value(&document);
    }
    output::lines(document.rules.iter().flat_map(preview_lines))?;
    note_age(&hits);
    output::note("nothing was removed");
    Ok(())
}

fn preview_lines(rule: &RemovalDocument) -> Vec<String> {
    let RemovalDocument { hits, not_allowed_flows, ending_flows, peers, .. } = rule;
    let mut lines = vec![
        format!("{}: {}", hits.security_group_rule_id, rule.rule),
        format!(
            "  {} and {} so far, last hit {}",
            many(hits.packets, "packet"),
            many(hits.new_flows, "flow"),
            ago(hits.last_hit)
        ),
        format!("  {}", allowed_otherwise(rule)),
    ];
    if *not_allowed_flows > 0 {
        lines.push(format!(
            "  of those, {ending_flows} end at their next packet (--revalidate on), and {} go on until they are closed \
             or idle",
            not_allowed_flows - ending_flows
        ));
        let shown = peers.get(..PREVIEWED).unwrap_or(peers);
        let more = peers.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("  their peers: {}{more}", shown.join(", ")));
    }
    if !rule.untracked_interfaces.is_empty() {
        lines.push(format!(
            "  its packets pass {} without a flow (untracked): open connections end at once",
            rule.untracked_interfaces.join(" ")
        ));
    }
    lines
}

/// The live flows of a rule that is to be removed.
fn allowed_otherwise(rule: &RemovalDocument) -> String {
    let flows = many(rule.flows, "live flow");
    match (rule.flows, rule.flows - rule.not_allowed_flows) {
        (0, _) => flows,
        (1, 0) => format!("{flows}, which no other rule allows"),
        (1, _) => format!("{flows}, which another rule allows"),
        (_, 0) => format!("{flows}, none of which another rule allows"),
        (all, other) if all == other => format!("{flows}, all of which another rule allows"),
        (_, other) => format!("{flows}, {other} of which another rule allows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_flows_and_those_that_another_rule_allows_are_a_sentence() {
        for (flows, not_allowed_flows, text) in [
            (0, 0, "0 live flows"),
            (1, 1, "1 live flow, which no other rule allows"),
            (1, 0, "1 live flow, which another rule allows"),
            (2, 2, "2 live flows, none of which another rule allows"),
            (3, 2, "3 live flows, 1 of which another rule allows"),
            (3, 0, "3 live flows, all of which another rule allows"),
        ] {
            let rule = RemovalDocument {
                hits: RuleHitsDocument::of_names(["sgr-1", "sg-1", "web"], None),
                rule: String::new(),
                flows,
                not_allowed_flows,
                ending_flows: 0,
                peers: Vec::new(),
                untracked_interfaces: Vec::new(),
            };
            assert_eq!(allowed_otherwise(&rule), text);
        }
    }
}
