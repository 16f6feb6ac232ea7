//! `secgroup rule list`

use anyhow::{Context as _, Result};
use clap::Args;

use super::{hits, staged};
use crate::cli::output::{self, Format, Output};
use crate::cli::table::{Column, table};
use crate::cli::{Context, Exit, ends, group};
use crate::model::{Group, Model, Rule, document, sorted_rules};

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Group by id or name [default: all groups]
    group: Option<String>,
    /// Show what each rule was used for
    #[arg(long)]
    hits: bool,
    /// List staged changes, and what they would do to the packets of the journal, instead of the rules in force
    #[arg(long, conflicts_with = "hits")]
    staged: bool,
    #[command(flatten)]
    output: Output,
}

impl List {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let groups = match &self.group {
            Some(word) => {
                let group = model.group(word);
                vec![group.with_context(|| format!("list rules of group {word}"))?]
            }
            None => {
                let mut groups = group::stored(&control, &model);
                groups.sort_by_key(|group| (group.name.to_ascii_lowercase(), &group.vpc));
                groups
            }
        };
        if self.hits {
            return hits::list(&control, &model, &groups, self.output.output)
                .context("list the hits of rules")
                .map(|()| Exit::Done);
        }
        if self.staged {
            return staged::list(&control, &model, &groups, self.output.output);
        }
        match self.output.output {
            Format::Json => {
                let rules = groups.iter().flat_map(|group| {
                    let group = *group;
                    group.rules.iter().map(move |rule| (group, rule))
                });
                output::json(&document::rules(&context.config.ec2, rules))?;
            }
            Format::Table => {
                let count: usize =
                    groups.iter().map(|group| model.staged_of(&group.id).count()).sum();
                print(&model, groups)?;
                match count {
                    0 => {}
                    1 => output::note("1 staged change is not in force: --staged lists it"),
                    _ => output::note(&format!(
                        "{count} staged changes are not in force: --staged lists them"
                    )),
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// The rules of groups, ingress first.
pub(in crate::cli) fn print<'a>(
    model: &Model,
    groups: impl IntoIterator<Item = &'a Group>,
) -> Result<()> {
    let groups: Vec<_> = groups.into_iter().collect();
    let has_ends = groups.iter().flat_map(|group| &group.rules).any(|rule| rule.end.is_some());
    let rows = sorted_rules(groups).into_iter().map(|(group, rule)| {
        let [direction, protocol, ports, peer] = columns_of(model, rule);
        let left = ends::left(rule.end);
        let description = output::or_dash(&rule.description);
        let group = model.group_label(group);
        [rule.id.to_string(), group, direction, protocol, ports, peer, left, description]
    });
    table(
        [
            Column::text("RULE"),
            Column::text("GROUP").dropped(3),
            Column::text("DIRECTION"),
            Column::text("PROTOCOL"),
            Column::text("PORTS"),
            Column::text("PEER"),
            Column::text("LEFT").dropped(1).only_if(has_ends),
            Column::text("DESCRIPTION").dropped(2),
        ],
        rows,
    )
}

/// Direction, protocol, ports and peer.
pub(super) fn columns_of(model: &Model, rule: &Rule) -> [String; 4] {
    [
        rule.spec.direction.name().to_owned(),
        rule.spec.traffic.protocol_word(),
        rule.spec.traffic.ports(),
        model.peer_text(&rule.spec.peer),
    ]
}
