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

/// Make the groups and prefix lists of a document as the document says.
///
/// The document is what `aws ec2 describe-security-groups` or `secgroup export` prints. Groups
/// that are not there are created; the rules of those that are become the document's. What the
/// document does not mention stays as it is. All of it happens, or nothing; the changes made are
/// printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aws ec2 describe-security-groups | secgroup apply -
  secgroup apply groups.json --confirm 1m
  secgroup apply groups.json --dry-run   # exit code 4 when something would change")]
pub(super) struct Command {
    /// The document; - is standard input
    file: PathBuf,
    /// Print the changes and make none
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
                context.control()?.dry_run(edit)
            } else {
                safety.change(context, &format!("apply {}", file.display()), edit)
            }
        };
        let plan = apply().with_context(|| format!("apply {}", file.display()))?;
        if dry_run {
            output::lines(plan.lines().map(Line::foreseen))?;
        } else {
            output::lines(plan.lines())?;
        }
        Ok(if dry_run && !plan.is_empty() { Exit::Differs } else { Exit::Done })
    }
}

/// More than any host's groups, and less than fills a host's memory: `apply /dev/zero` ends.
const LARGEST: u64 = 256 << 20;

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file.as_os_str() == "-" { all(io::stdin().lock()) } else { all(File::open(file)?) }
}

fn all(source: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        let message = format!("larger than {} MiB", LARGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}
