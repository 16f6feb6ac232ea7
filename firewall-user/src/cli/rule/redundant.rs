//! `secgroup rule redundant`

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::interfaces::Named;
use crate::cli::json::SCHEMA_VERSION;
use crate::cli::output::{self, Format, Output};
use crate::cli::table::{Column, table};
use crate::cli::{Context, Exit, group};
use crate::model::{Group, Model, Peer, Rule};
use crate::policy::redundant::{Redundant, redundant};
use crate::policy::{Addresses, resolve_groups};

#[derive(Debug, Args)]
pub(in crate::cli) struct Command {
    /// Group by id or name [default: each group by itself]
    #[arg(conflicts_with = "interface")]
    group: Option<String>,
    /// The rules of all groups of this interface together; of another network namespace also as NAMESPACE/DEVICE.
    /// Another interface with only some of the groups may need what is named
    #[arg(long, value_name = "IFACE")]
    interface: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Rules that could be removed without any effect on a verdict.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RedundantRules {
    /// Version of this document: 1.
    schema_version: u32,
    /// The rules, by group.
    redundant_rules: Vec<RedundantRule>,
}

/// A rule that others make unnecessary.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct RedundantRule {
    /// Id of the rule.
    security_group_rule_id: String,
    /// Id of its group.
    group_id: String,
    /// Name of its group.
    group_name: String,
    /// The rule, as text.
    rule: String,
    /// `shadowed`: one other rule covers it; `redundant`: several together do.
    kind: &'static str,
    /// Ids of the rules that allow all of its traffic.
    covered_by: Vec<String>,
    /// Whether one of the rules has a group or prefix list as its peer: then this holds for the present members and
    /// entries.
    is_of_present_members: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let addresses = control.addresses(&model)?;
        let scopes: Vec<Vec<&Group>> = match (&self.group, &self.interface) {
            (Some(word), _) => {
                let group = model.group(word);
                vec![vec![group.with_context(|| format!("rules of group {word}"))?]]
            }
            (None, Some(word)) => {
                let interface = Named::new(word, None)?.of(control.pins(), &model)?;
                let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
                vec![groups.map(AsRef::as_ref).collect()]
            }
            (None, None) => {
                let all = group::stored(&control, &model).into_iter();
                all.map(|group| vec![group]).collect()
            }
        };
        let found = scopes.iter().flat_map(|groups| of(&model, &addresses, groups)).collect();
        let document = RedundantRules { schema_version: SCHEMA_VERSION, redundant_rules: found };
        match self.output.output {
            Format::Json => output::value(&document)?,
            Format::Table => print(&document)?,
        }
        Ok(Exit::Done)
    }
}

/// The rules of some groups together that are not needed.
fn of(model: &Model, addresses: &Addresses, groups: &[&Group]) -> Vec<RedundantRule> {
    let ids: Vec<_> = groups.iter().map(|group| group.id.clone()).collect();
    let rules = resolve_groups(model, addresses, &ids);
    let by_number: BTreeMap<u32, (&Group, &Rule)> = groups
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (rule.number, (*group, rule))))
        .collect();
    let named = |Redundant { number, covered_by }: Redundant| {
        let (group, rule) = by_number.get(&number)?;
        let covers: Vec<_> = covered_by.iter().filter_map(|one| by_number.get(one)).collect();
        let is_present =
            |rule: &Rule| matches!(rule.spec.peer, Peer::Group(_) | Peer::PrefixList(_));
        Some(RedundantRule {
            security_group_rule_id: rule.id.to_string(),
            group_id: group.id.to_string(),
            group_name: group.name.clone(),
            rule: model.spec_text(&rule.spec),
            kind: if covers.len() == 1 { "shadowed" } else { "redundant" },
            covered_by: covers.iter().map(|(_, rule)| rule.id.to_string()).collect(),
            is_of_present_members: is_present(rule)
                || covers.iter().any(|(_, one)| is_present(one)),
        })
    };
    redundant(&rules).into_iter().filter_map(named).collect()
}

fn print(document: &RedundantRules) -> Result<()> {
    let rows = document.redundant_rules.iter().map(|one| {
        let note = if one.is_of_present_members { "now" } else { "always" };
        [
            one.security_group_rule_id.clone(),
            one.group_name.clone(),
            one.rule.clone(),
            one.kind.to_owned(),
            note.to_owned(),
            one.covered_by.join(" "),
        ]
    });
    table(
        [
            Column::text("RULE"),
            Column::text("GROUP").dropped(1),
            Column::text("ALLOWS"),
            Column::text("KIND"),
            Column::text("HOLDS").dropped(2),
            Column::text("COVERED BY"),
        ],
        rows,
    )
}
