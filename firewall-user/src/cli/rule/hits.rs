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
use crate::model::{Error, Group, Model, Rule, RuleId, sorted_rules};
use crate::observe::flows::document::FlowDocument;
use crate::observe::flows::live_flows;
use crate::observe::flows::totals::{By, totals};
use crate::observe::hits::document::{RuleHitsDocument, RuleHitsList, RuleUsers, UnusedRules};
use crate::observe::hits::removal::{Removal, preview};
use crate::observe::hits::{Hits, HitsError};

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
fn hits(control: &Control, model: &Model) -> Result<Hits> {
    match Hits::current(control, model) {
        Err(error) if error.is::<HitsError>() => {
            let hits = Hits::read(control)?;
            crate::cli::failure::warn(&error.context("the hits are those of the last reading"));
            Ok(hits)
        }
        result => result,
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
    let hits = hits(control, model)?;
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
        [.., last] => output::note(&format!(
            "watched without a gap since {}; `secgroup serve` watches all the time",
            ago(Some(last.from))
        )),
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
        let hits = hits(&control, &model)?;
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
        let hits = hits(&control, &model)?;
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
            return output::value(&RuleUsers::new(rule, is_removed, count, peers, flows));
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
        if count == 0 {
            return Ok(());
        }
        output::lines([""])?;
        print::totals("PEER", &peers)?;
        output::lines([""])?;
        print::list(&flows)
    }
}

/// `rule remove --preview`: what the removal would affect.
pub(super) fn print_preview(control: &Control, model: &Model, rules: &[&Rule]) -> Result<()> {
    let hits = hits(control, model)?;
    let numbers: BTreeSet<u32> = rules.iter().map(|rule| rule.number).collect();
    let removals = preview(control, model, &numbers)?;
    for rule in rules {
        let known = hits.of(rule.number).copied().unwrap_or_default();
        let [direction, protocol, ports, peer] = columns_of(model, rule);
        let none = Removal::default();
        let removal = removals.get(&rule.number).unwrap_or(&none);
        let mut lines = vec![
            format!("{}: {direction} {protocol} {ports} {peer}", rule.id),
            format!(
                "  {} and {} so far, last hit {}",
                many(known.packets, "packet"),
                many(known.new_flows, "flow"),
                ago(known.last)
            ),
            format!(
                "  {}; no other rule allows {} of them",
                many(removal.flows, "live flow"),
                removal.not_allowed
            ),
        ];
        if removal.not_allowed > 0 {
            lines.push(format!(
                "  of those, {} end at their next packet (--revalidate on), and {} go on until they are closed or idle",
                removal.ending,
                removal.not_allowed - removal.ending
            ));
            let peers: Vec<_> =
                removal.peers.iter().take(PREVIEWED).map(|peer| peer.key.as_str()).collect();
            let more = removal.peers.len().saturating_sub(PREVIEWED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lines.push(format!("  their peers: {}{more}", peers.join(", ")));
        }
        output::lines(lines)?;
    }
    output::note(
        "nothing was removed; packets that pass without a flow are not among the live flows",
    );
    Ok(())
}
