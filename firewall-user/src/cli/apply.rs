//! `secgroup apply`

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::block::risks;
use super::safety::Safety;
use super::{Context, Exit};
use super::{input, output};
use crate::clock::Clocks;
use crate::model::apply::{Line, Others, Plan};
use crate::model::document::Document;
use crate::model::{Change, Entries, Model, PrefixListId};
use crate::store::Transaction;

/// Apply a document: create and change groups, prefix lists and network ACLs to match it.
///
/// The document has the form of `aws ec2 describe-security-groups`, `aws ec2 describe-network-acls` and
/// `secgroup export`. What does not exist is created. Of what exists, rules, entries and tags are added,
/// changed and deleted until they equal the document's. What is not in the document stays as it is, unless
/// --prune removes it. Which interfaces have a network ACL is not changed. Either the whole document is
/// applied or nothing; the changes are printed. Everything that is wrong with a document is reported at
/// once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aws ec2 describe-security-groups | secgroup apply -
  aws ec2 describe-network-acls | secgroup apply - --dry-run
  secgroup apply groups.json --confirm 1m
  secgroup apply groups.json --prune --dry-run

Exit code 4: --dry-run, and the document differs from the store.")]
pub(super) struct Command {
    /// File with the document; - is standard input
    file: PathBuf,
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
    /// Remove the groups that the document does not have, except one with the name default, and if it has
    /// network ACLs, those that it does not have, except the default one; refused while an interface or a
    /// rule of another group uses one of them
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    safety: Safety,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { file, dry_run, prune, safety } = self;
        let others = if prune { Others::Go } else { Others::Stay };
        let apply = || -> Result<_> {
            let text = input::read(&file)?;
            let mut document = Document::parse(&text)?;
            document.now = Clocks::now().moment;
            let edit = |change: &mut Transaction<'_>| {
                let plan = Plan::with(change.model(), &document, change.limits(), others)
                    .map_err(|errors| errors.located(&text))?;
                let blocked = blocked_lists(change.model(), &plan);
                change.apply(&plan)?;
                if !safety.force() {
                    for (list, before) in &blocked {
                        risks::check_list(change.model(), list, before)?;
                    }
                }
                Ok(plan)
            };
            if dry_run {
                context.control_existing()?.dry_run(&safety.terms("apply"), edit)
            } else {
                safety.change(context, &format!("apply {}", file.display()), edit)
            }
        };
        let plan = apply().with_context(|| format!("apply {}", file.display()))?;
        if dry_run {
            output::lines(plan.lines().map(Line::preview))?;
        } else {
            output::lines(plan.lines())?;
        }
        report(&plan);
        Ok(if dry_run && !plan.is_empty() { Exit::Differs } else { Exit::Done })
    }
}

/// The prefix lists that are blocked and get other entries, with those that they have.
fn blocked_lists(model: &Model, plan: &Plan) -> Vec<(PrefixListId, Entries)> {
    let changed = plan.steps.iter().filter_map(|step| match &step.change {
        Change::SetEntries { list, .. } if risks::is_blocked(model, list) => Some(list),
        _ => None,
    });
    let lists = changed.filter_map(|list| model.prefix_lists.get(list));
    lists.map(|list| (list.id.clone(), list.entries.clone())).collect()
}

/// Names and warnings that are printed; of more there is a count.
const MOST: usize = 100;

/// Says what the document leaves as it is, and what may not be meant.
fn report(plan: &Plan) {
    for warning in plan.warnings.iter().take(MOST) {
        output::note(&format!("warning: {warning}"));
    }
    if plan.warnings.len() > MOST {
        output::note(&format!("and {} more warnings", plan.warnings.len() - MOST));
    }
    if !plan.others.is_empty() {
        let mut names = plan.others.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
        if plan.others.len() > MOST {
            let _ = write!(names, " and {} more", plan.others.len() - MOST);
        }
        output::note(&format!("not in the document, and unchanged: {names}"));
    }
}
