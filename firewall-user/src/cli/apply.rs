//! `secgroup apply`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::documents::{self, Run, Scope};
use super::safety::Safety;
use super::{Context, Exit};
use super::{input, output};
use crate::model::apply::{Line, Others};
use crate::model::document::Parts;

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
  secgroup apply region.json --vpc vpc-0123456789abcdef0

Exit code 4: --dry-run, and the document differs from the store.")]
pub(super) struct Command {
    /// File with the document; - is standard input
    file: PathBuf,
    #[command(flatten)]
    scope: Scope,
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
    /// Remove the groups that the document does not have, except one with the name default, and if it has
    /// network ACLs, those that it does not have, except the default one; of the VPCs of the document only.
    /// Refused while an interface or a rule of another group uses one of them
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    safety: Safety,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { file, scope, dry_run, prune, safety } = self;
        let others = if prune { Others::Go } else { Others::Stay };
        let what = format!("apply {}", file.display());
        let apply = || -> Result<_> {
            let mut parts = Parts::default();
            parts.add(None, input::read(&file)?, None)?;
            scope.add_entries(&mut parts)?;
            let run = if dry_run { Run::Dry } else { Run::Real { what: &what } };
            documents::apply(context, &mut parts, &scope.options(others), safety, run)
        };
        let plan = apply().with_context(|| what.clone())?;
        if dry_run {
            output::lines(plan.lines().map(Line::preview))?;
        } else {
            output::lines(plan.lines())?;
        }
        documents::report(&plan);
        Ok(if dry_run && !plan.is_empty() { Exit::Differs } else { Exit::Done })
    }
}
