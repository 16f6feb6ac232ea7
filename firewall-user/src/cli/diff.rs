//! `secgroup diff`

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Context as _, Result};
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use self::denied::{DenialDocument, denied};
use super::output::{self, Format, Output};
use super::proposal::Proposal;
use super::{Context, Exit};
use crate::model::apply::{Line, Sign};
use crate::model::{Interface, Model};
use crate::observe::SCHEMA_VERSION;
use crate::observe::untracked::untracked;
use crate::policy::verdicts::{Decided, difference};
use crate::policy::{Addresses, active_rules};

mod denied;

/// Pieces of changed verdicts of one interface that are printed, of rules and of ACLs each.
const MOST: usize = 1000;

/// Compare a document, or the staged changes, with the store: rules and entries that differ, and packets that would be
/// decided otherwise.
///
/// The first lines are the changes that `secgroup apply` would make. Then follow the packets of new connections, by
/// interface, that would be allowed and are dropped, or would be dropped and are allowed; and all packets that network
/// ACLs and blocks would deny, or would no longer deny. Rules and entries that differ and decide the same have no such
/// line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup diff groups.json
  secgroup diff --staged --output json

Exit code 4: there is a difference.")]
pub(super) struct Command {
    #[command(flatten)]
    proposal: Proposal,
    #[command(flatten)]
    output: Output,
}

/// How a proposed configuration differs from the stored one.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DiffDocument {
    /// Version of this document: 1.
    schema_version: u32,
    /// What would be added, removed and changed.
    changes: Vec<ChangeDocument>,
    /// Packets of new connections that rules would decide about otherwise.
    verdicts: Vec<VerdictDocument>,
    /// Packets, whatever connection they belong to, that network ACLs and blocks would decide about otherwise.
    denials: Vec<DenialDocument>,
    /// Whether there are more of either.
    has_more_verdicts: bool,
}

/// A change of the stored configuration.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct ChangeDocument {
    /// `add`, `remove` or `change`.
    change: &'static str,
    /// The name of a group; or `group`, `prefix-list` or `network-acl`, and its name.
    object: String,
    /// Id of the item; null for a new one.
    id: Option<String>,
    /// The item.
    text: String,
}

/// Packets that would be decided otherwise on interfaces that are alike.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct PacketsDocument {
    /// Ids of the interfaces, `eni-…`.
    network_interface_ids: Vec<String>,
    /// The interfaces, as `DEVICE` or `NAMESPACE/DEVICE`.
    interfaces: Vec<String>,
    /// `ingress` or `egress`.
    direction: &'static str,
    /// Their outside addresses.
    network: String,
    /// Direction, protocols, ports and network as text.
    packets: String,
}

impl PacketsDocument {
    fn new(interfaces: &[&Interface], piece: &Decided) -> Self {
        Self {
            network_interface_ids: interfaces.iter().map(|one| one.id.to_string()).collect(),
            interfaces: interfaces.iter().map(|one| one.label()).collect(),
            direction: piece.direction.name(),
            network: piece.network.to_string(),
            packets: piece.to_string(),
        }
    }
}

/// Packets of new connections that would be decided otherwise.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct VerdictDocument {
    /// The packets.
    #[serde(flatten)]
    of: PacketsDocument,
    /// `allowed`: they are dropped now; `dropped`: they are allowed now.
    verdict: &'static str,
    /// Id of the rule that would allow them, or does now; null for a new one.
    security_group_rule_id: Option<String>,
    /// That rule, as text.
    rule: String,
    /// The interfaces that these packets pass without a flow (untracked), and where open connections end at once.
    untracked_interfaces: Vec<String>,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { proposal, output } = self;
        let compare = || -> Result<DiffDocument> {
            let control = context.control_reading()?;
            let model = control.model()?;
            let proposed = proposal.read(&control, &model)?;
            let addresses = control.addresses(&model)?;
            let (verdicts, has_more) = verdicts(&model, &proposed.model, &addresses);
            let (denials, has_more_denials) = denied(&model, &proposed.model);
            let is_new = |line: &&Line| !line.is_generated;
            let changes = proposed.lines.iter().map(|line| ChangeDocument {
                change: match line.sign {
                    Sign::Add => "add",
                    Sign::Remove => "remove",
                    Sign::Change => "change",
                },
                object: line.object.clone(),
                id: Some(line).filter(is_new).and_then(|line| line.id.clone()),
                text: line.text.clone(),
            });
            let changes = changes.collect();
            Ok(DiffDocument {
                schema_version: SCHEMA_VERSION,
                changes,
                verdicts,
                denials,
                has_more_verdicts: has_more || has_more_denials,
            })
        };
        let document = compare().with_context(|| format!("diff {}", proposal.text()))?;
        match output.output {
            Format::Json => output::value(&document)?,
            Format::Table => print(&document)?,
        }
        Ok(if document.changes.is_empty() { Exit::Done } else { Exit::Differs })
    }
}

/// The packets that each interface would decide about otherwise; and whether there are more.
fn verdicts(now: &Model, proposed: &Model, addresses: &Addresses) -> (Vec<VerdictDocument>, bool) {
    let mut by_groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for interface in now.interfaces.values() {
        by_groups.entry(&interface.groups).or_default().push(interface);
    }
    let (mut found, mut has_more) = (Vec::new(), false);
    for interfaces in by_groups.values() {
        let Some(first) = interfaces.first() else { continue };
        let rules = |model| active_rules(model, addresses, first);
        let before = rules(now);
        let (pieces, is_cut) = difference(&before, &rules(proposed), MOST);
        has_more |= is_cut;
        found.extend(pieces.iter().map(|piece| {
            let model = if piece.is_allowed { proposed } else { now };
            let rule = rule(model, piece);
            let is_stored = !piece.is_allowed || rule_exists(now, piece.number);
            let is_untracked =
                |one: &&&Interface| !untracked(piece, &before, one.tracking).is_empty();
            VerdictDocument {
                of: PacketsDocument::new(interfaces, piece),
                verdict: if piece.is_allowed { "allowed" } else { "dropped" },
                security_group_rule_id: rule
                    .as_ref()
                    .filter(|_| is_stored)
                    .map(|(id, _)| id.clone()),
                rule: rule.map_or_else(String::new, |(_, text)| text),
                untracked_interfaces: interfaces
                    .iter()
                    .filter(is_untracked)
                    .map(|one| one.label())
                    .collect(),
            }
        }));
    }
    (found, has_more)
}

/// The id of the rule of a piece, and its text with the group.
fn rule(model: &Model, piece: &Decided) -> Option<(String, String)> {
    model.groups.values().find_map(|group| {
        let rule = group.rules.iter().find(|rule| rule.number == piece.number)?;
        let text = format!("{} {}", model.group_label(group), model.spec_text(&rule.spec));
        Some((rule.id.to_string(), text))
    })
}

fn rule_exists(model: &Model, number: u32) -> bool {
    model.groups.values().flat_map(|group| &group.rules).any(|rule| rule.number == number)
}

fn print(document: &DiffDocument) -> Result<()> {
    let changes = document.changes.iter().map(|line| {
        let sign = match line.change {
            "add" => '+',
            "remove" => '-',
            _ => '~',
        };
        let id = line.id.as_deref().unwrap_or("(new)");
        format!("{sign} {} {id} {}", line.object, line.text)
    });
    let verdicts = document.verdicts.iter().map(|one| {
        let interfaces = one.of.interfaces.join(" ");
        let by = match one.verdict {
            "allowed" => "would allow it",
            _ => "allows it now",
        };
        let places = one.untracked_interfaces.join(" ");
        let note = match one.untracked_interfaces.len() {
            0 => String::new(),
            some if some == one.of.interfaces.len() => {
                "; untracked: open connections end at once".to_owned()
            }
            _ => format!("; untracked on {places}: open connections end at once"),
        };
        format!(
            "{interfaces}: {} would be {} ({} {by}{note})",
            one.of.packets, one.verdict, one.rule
        )
    });
    let denials = denied::lines(&document.denials);
    let more = document.has_more_verdicts.then(|| "and more".to_owned());
    let is_same = document.verdicts.is_empty() && document.denials.is_empty();
    let same = (!document.changes.is_empty() && is_same)
        .then(|| "no packet of an attached interface would be decided otherwise".to_owned());
    let lines: Vec<Box<dyn Display>> = changes
        .chain(verdicts)
        .chain(denials)
        .chain(more)
        .chain(same)
        .map(|line| Box::new(line) as Box<dyn Display>)
        .collect();
    output::lines(lines)
}
