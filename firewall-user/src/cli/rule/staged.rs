//! `secgroup rule stage`, `stage-removal`, `unstage` and `enforce`, and the list of staged changes.

use anyhow::{Context as _, Result};
use clap::Args;
use firewall_ebpf::abi::interface::Direction;
use schemars::JsonSchema;
use serde::Serialize;

use super::{hits, parse_ids, selector::Selector};
use crate::cli::json::SCHEMA_VERSION;
use crate::cli::output::{self, Format};
use crate::cli::safety::Safety;
use crate::cli::table::{Column, table};
use crate::cli::{Context, Exit};
use crate::clock::Clocks;
use crate::control::Control;
use crate::model::{
    Group, GroupId, Model, NewRule, RuleId, StagedChange, rfc3339, rule_description,
};
use crate::observe::hits::Hits;
use crate::observe::query::Checked;
use crate::observe::staged::Effects;
use crate::observe::untracked;
use crate::store::{Error, Transaction};

/// Changes of rules that are not in force.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StagedRules {
    /// Version of this document: 1.
    schema_version: u32,
    /// The staged changes, by group.
    staged_rules: Vec<StagedRule>,
    /// Time of the oldest record of dropped packets, UTC; null: there is none.
    oldest_record: Option<String>,
    /// Dropped packets since the first change was staged that are in no record.
    lost_packets: u64,
}

/// A staged change.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct StagedRule {
    /// Id of the rule: that it will have, or of the rule to be removed.
    security_group_rule_id: String,
    /// Id of the group.
    group_id: String,
    /// Name of the group.
    group_name: String,
    /// `add` or `remove`.
    change: &'static str,
    /// The rule, as text.
    rule: String,
    /// Free text.
    description: String,
    /// When it was staged, UTC.
    staged_at: String,
    /// Of a rule to be added: packets that were dropped since then, and that it would have let pass.
    would_pass_packets: u64,
    /// Their bytes.
    would_pass_bytes: u64,
    /// Of a rule to be removed: live flows that it has admitted, and that no other rule would.
    would_drop_flows: u64,
    /// Their packets of both directions.
    would_drop_packets: u64,
    /// Of a rule to be removed: live flows that it has admitted, and that another rule would.
    otherwise_allowed_flows: u64,
    /// Of a rule to be removed: the interfaces that its packets pass without a flow (untracked), so that open
    /// connections, which are not among the flows, end at once.
    untracked_interfaces: Vec<String>,
    /// Of a rule to be removed: packets that it has allowed so far.
    packets: u64,
    /// When the last of these packets passed, UTC; null without one.
    last_hit: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    mut_arg("protocol", |arg| arg.required(true)),
    mut_group("peer", |group| group.required(true))
)]
pub(in crate::cli) struct Stage {
    /// Group by id or name
    group: String,
    /// Direction of the connections that the rule would allow
    #[arg(value_enum)]
    direction: Direction,
    #[command(flatten)]
    selector: Selector,
    /// Purpose of the rule
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Ids {
    /// Group by id or name
    group: String,
    /// Ids of rules
    #[arg(required = true, value_name = "RULE-ID")]
    rules: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Enforce {
    #[command(flatten)]
    ids: Ids,
    #[command(flatten)]
    safety: Safety,
}

impl Stage {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { group, direction, selector, description } = self;
        let stage = || -> Result<_> {
            let rule = selector.parse_new(direction)?;
            let description = rule_description(&description.unwrap_or_default())?;
            Safety::default().change(context, &format!("rule stage {group}"), |change| {
                let id = change.model().group(&group)?.id.clone();
                let specs = rule.specs(change.model())?.into_iter();
                let (description, end) = (&description, None);
                let new = specs.map(|spec| NewRule { spec, description: description.clone(), end });
                Ok(change.stage_rules(&id, new.collect())?)
            })
        };
        output::lines(stage().with_context(|| format!("stage rule of group {group}"))?)?;
        selector.note_networks();
        Ok(Exit::Done)
    }
}

impl Ids {
    /// Stages the removal of the rules.
    pub(super) fn stage_removal(self, context: &Context) -> Result<Exit> {
        let names = ["stage-removal", "stage removal of rules"];
        self.change(context, Safety::default(), names, |change, group, rules| {
            change.stage_removals(group, rules)
        })
    }

    /// Drops the staged changes.
    pub(super) fn unstage(self, context: &Context) -> Result<Exit> {
        let names = ["unstage", "unstage rules"];
        self.change(context, Safety::default(), names, |change, group, rules| {
            change.unstage(group, rules)
        })
    }

    /// Makes one change about the rules, which has a name as a command and one in words.
    fn change(
        self,
        context: &Context,
        safety: Safety,
        [command, what]: [&str; 2],
        edit: fn(&mut Transaction<'_>, &GroupId, &[RuleId]) -> Result<(), Error>,
    ) -> Result<Exit> {
        let Self { group, rules } = self;
        let change = || {
            let ids = parse_ids(&rules)?;
            safety.change(context, &format!("rule {command} {group}"), |change| {
                let id = change.model().group(&group)?.id.clone();
                Ok(edit(change, &id, &ids)?)
            })
        };
        change().with_context(|| format!("{what} of group {group}"))?;
        Ok(Exit::Done)
    }
}

impl Enforce {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { ids, safety } = self;
        ids.change(context, safety, ["enforce", "enforce staged rules"], |change, group, rules| {
            change.enforce_staged(group, rules)
        })
    }
}

/// Lists the staged changes of groups.
pub(super) fn list(
    control: &Control,
    model: &Model,
    groups: &[&Group],
    format: Format,
) -> Result<Exit> {
    let effects = Effects::read(control, model)?;
    let (hits, untracked) = if model.staged.is_empty() {
        Default::default()
    } else {
        let (addresses, now) = (control.addresses(model)?, Clocks::now().moment.boottime);
        let enforced = model.with_staged(None);
        let all = Checked::default();
        let untracked = untracked::ended(model, &enforced, (&addresses, now), &all);
        (hits::read(control, model)?, untracked)
    };
    let of_group = |group: &&Group| -> Vec<StagedRule> {
        let all = model.staged_of(&group.id).filter_map(|(id, staged)| {
            let (change, spec, description) = match &staged.change {
                StagedChange::Add { spec, description } => ("add", spec, description),
                StagedChange::Remove => {
                    let rule = group.rule(id).ok()?;
                    ("remove", &rule.spec, &rule.description)
                }
            };
            let number = match &staged.change {
                StagedChange::Remove => group.rule(id).ok().map(|rule| rule.number),
                StagedChange::Add { .. } => None,
            };
            let known = number.and_then(|number| hits.of(number)).copied().unwrap_or_default();
            let effect = effects.by_rule.get(id).copied().unwrap_or_default();
            Some(StagedRule {
                security_group_rule_id: id.to_string(),
                group_id: group.id.to_string(),
                group_name: group.name.clone(),
                change,
                rule: model.spec_text(spec),
                description: description.clone(),
                staged_at: rfc3339(staged.created),
                would_pass_packets: effect.would_pass_packets,
                would_pass_bytes: effect.would_pass_bytes,
                would_drop_flows: effect.would_drop_flows,
                would_drop_packets: effect.would_drop_packets,
                otherwise_allowed_flows: effect.otherwise_allowed_flows,
                untracked_interfaces: number
                    .and_then(|number| untracked.get(&(number, None)))
                    .cloned()
                    .unwrap_or_default(),
                packets: known.packets,
                last_hit: known.last.map(rfc3339),
            })
        });
        all.collect()
    };
    let staged_rules = groups.iter().flat_map(of_group).collect();
    let document = StagedRules {
        schema_version: SCHEMA_VERSION,
        staged_rules,
        oldest_record: effects.oldest.map(rfc3339),
        lost_packets: effects.lost,
    };
    match format {
        Format::Json => output::value(&document)?,
        Format::Table => print(&document, &hits)?,
    }
    Ok(Exit::Done)
}

/// What the change would have done.
fn would(one: &StagedRule) -> String {
    if one.change == "add" {
        return format!("pass {}", output::many(one.would_pass_packets, "packet"));
    }
    let mut text = format!("drop {}", output::many(one.would_drop_flows, "flow"));
    if !one.untracked_interfaces.is_empty() {
        text += " and untracked packets";
    }
    match one.otherwise_allowed_flows {
        0 => text,
        other => format!("{text}, {other} allowed otherwise"),
    }
}

fn print(document: &StagedRules, hits: &Hits) -> Result<()> {
    let rows = document.staged_rules.iter().map(|one| {
        [
            one.security_group_rule_id.clone(),
            one.group_name.clone(),
            one.change.to_owned(),
            one.rule.clone(),
            would(one),
            one.staged_at.clone(),
            output::or_dash(&one.description),
        ]
    });
    table(
        [
            Column::text("RULE"),
            Column::text("GROUP").dropped(3),
            Column::text("CHANGE"),
            Column::text("ALLOWS"),
            Column::text("WOULD"),
            Column::text("STAGED").dropped(1),
            Column::text("DESCRIPTION").dropped(2),
        ],
        rows,
    )?;
    let mut untracked =
        document.staged_rules.iter().filter(|one| !one.untracked_interfaces.is_empty()).peekable();
    if untracked.peek().is_some() {
        hits::note_age(hits);
    }
    for one in untracked {
        output::note(&format!(
            "the packets of {} pass {} without a flow (untracked): its removal ends open connections at once; {} so \
             far, last hit {}",
            one.security_group_rule_id,
            one.untracked_interfaces.join(" "),
            output::many(one.packets, "packet"),
            one.last_hit.as_deref().unwrap_or("never"),
        ));
    }
    // Only what is recorded can be counted.
    match (&document.oldest_record, document.lost_packets) {
        _ if document.staged_rules.is_empty() => {}
        (None, _) => {
            output::note("no dropped packet was recorded: `secgroup serve` records them");
        }
        (Some(_), 0) => {}
        (Some(_), lost) => output::note(&format!("{lost} dropped packets are in no record")),
    }
    Ok(())
}
