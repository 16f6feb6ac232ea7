//! `secgroup apply`

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::output;
use super::safety::Safety;
use super::{Context, Exit};
use crate::model::apply::{Line, Plan};
use crate::model::document::Document;
use crate::store::Transaction;

/// Apply a document: create and change groups, add and delete rules to match it.
///
/// The document has the form of `aws ec2 describe-security-groups` and `secgroup export`. Groups and
/// prefix lists that do not exist are created. Of those that exist, rules, entries and tags are added,
/// changed and deleted until they equal the document's. Groups and prefix lists that are not in the
/// document stay as they are. Either the whole document is applied or nothing; the changes are printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aws ec2 describe-security-groups | secgroup apply -
  secgroup apply groups.json --confirm 1m
  secgroup apply groups.json --dry-run

Exit code 4: --dry-run, and the document differs from the store.")]
pub(super) struct Command {
    /// File with the document; - is standard input
    file: PathBuf,
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    safety: Safety,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { file, dry_run, safety } = self;
        let apply = || -> Result<_> {
            let document = Document::parse(&read(&file)?)?;
            let edit = |change: &mut Transaction<'_>| {
                let plan = Plan::new(change.model(), &document, change.limits())?;
                change.apply(&plan)?;
                Ok(plan)
            };
            if dry_run {
                context.control_existing()?.dry_run(edit)
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
        Ok(if dry_run && !plan.is_empty() { Exit::Differs } else { Exit::Done })
    }
}

/// Larger than any real document, and small enough for memory: `apply /dev/zero` ends.
const MAX_SIZE: u64 = 256 << 20;

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file.as_os_str() == "-" { all(io::stdin().lock()) } else { all(File::open(file)?) }
}

fn all(source: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(MAX_SIZE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_SIZE {
        let message = format!("larger than {} MiB", MAX_SIZE >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}
