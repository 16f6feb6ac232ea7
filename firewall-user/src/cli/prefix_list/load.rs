//! `secgroup prefix-list load`

use std::borrow::Cow;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::loaded::{LoadDocument, Loaded};
use crate::cli::block::risks;
use crate::cli::output::{self, Format};
use crate::cli::safety::Safety;
use crate::cli::{Context, Exit, input};
use crate::explain::Explain;
use crate::model::list_file::{ListFile, Listed, WrongLines};
use crate::model::{Entries, EntryChange, Error, Family, prefix_list_name};
use crate::store::{NewPrefixList, Transaction};

/// Replace the entries of a prefix list by the networks of a file.
///
/// The file has a CIDR or an address on each line; # and ; begin comments, and blank lines are left out:
/// the forms of most public block lists. The list is replaced as one change, and what changes is printed.
/// Lines that are no network are refused before anything changes, and so is a file without networks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup prefix-list load drop drop.txt --create
  secgroup prefix-list load drop drop.txt --dry-run
  curl -sSf https://example.com/drop.txt | secgroup prefix-list load drop -

Exit code 4: --dry-run, and the file differs from the list.")]
pub(in crate::cli) struct Load {
    /// Prefix list by id or name
    list: String,
    /// File with the networks; - is standard input
    file: PathBuf,
    /// Create the list if there is none of this name
    #[arg(long)]
    create: bool,
    /// Address family of a list that is created [default: that of the first network]
    #[arg(long, value_enum, requires = "create")]
    family: Option<Family>,
    /// Leave out the networks of the other family; without it, they are refused
    #[arg(long)]
    only_family: bool,
    /// Store the comment after a network as its description
    #[arg(long)]
    descriptions: bool,
    /// Accept a file without networks: the list is emptied
    #[arg(long)]
    allow_empty: bool,
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
    /// Print every change, not only the first of them
    #[arg(long)]
    full: bool,
    /// Form of the output; JSON has every change
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    safety: Safety,
}

/// Why a file is not loaded.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum LoadError {
    #[error(transparent)]
    Lines(#[from] WrongLines),
    #[error("{0}")]
    Family(WrongLines),
    #[error("there is no prefix list {0:?}")]
    NotFound(String),
    #[error("it has no networks")]
    Empty,
    #[error("it has no networks, so that the family of a new list is not known")]
    NoFamily,
}

impl Explain for LoadError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Lines(WrongLines(lines)) if lines.first.iter().all(|line| line.is_cut) => {
                "check that the file is complete: a line that was cut off can look like this; a network of this \
                 size is written with its first address"
                    .into()
            }
            Self::Lines(_) => {
                "write a CIDR or an address on each line; # and ; begin comments".into()
            }
            Self::Family(_) => "--only-family leaves the other family out".into(),
            Self::NotFound(_) => {
                "--create creates it; `secgroup prefix-list list` shows those that there are".into()
            }
            Self::Empty => "check the download; --allow-empty empties the list".into(),
            Self::NoFamily => "name it with --family".into(),
        })
    }

    fn exit(&self) -> Exit {
        if matches!(self, Self::NotFound(_)) { Exit::NotFound } else { Exit::Failed }
    }
}

impl Load {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let (file, list) = (self.file.display(), &self.list);
        let mut notes = Vec::new();
        let mut load = || -> Result<_> {
            let text = input::read(&self.file).with_context(|| format!("read {file}"))?;
            let read = ListFile::read(&text, self.descriptions).map_err(LoadError::from);
            let read = read.with_context(|| format!("{file}"))?;
            drop(text);
            notes = remarks(&read);
            let edit = |change: &mut Transaction<'_>| self.edit(change, read);
            if self.dry_run {
                context.control_existing()?.dry_run(&self.safety.terms("prefix-list load"), edit)
            } else {
                self.safety.change(context, &format!("prefix-list load {list} {file}"), edit)
            }
        };
        let loaded = load().with_context(|| format!("load prefix list {list}"))?;
        self.print(&loaded)?;
        notes.into_iter().chain(doubts(&loaded)).for_each(|note| output::note(&note));
        let changes = loaded.is_new || loaded.before != loaded.list.entries;
        Ok(if self.dry_run && changes { Exit::Differs } else { Exit::Done })
    }

    fn edit(&self, change: &mut Transaction<'_>, read: ListFile) -> Result<Loaded> {
        let file = self.file.display().to_string();
        let here = match change.model().prefix_list(&self.list) {
            Ok(here) => Some((here.id.clone(), here.name.clone(), here.family)),
            Err(Error::PrefixListNotFound(_)) if self.create => None,
            Err(Error::PrefixListNotFound(word)) => return Err(LoadError::NotFound(word).into()),
            Err(error) => return Err(error.into()),
        };
        let family = match (&here, self.family.or(read.family())) {
            (Some((_, name, here)), _) => {
                if let Some(wanted) = self.family.filter(|wanted| wanted != here) {
                    let (name, here) = (name.clone(), *here);
                    return Err(Error::FamilyFixed { name, here, wanted }.into());
                }
                *here
            }
            (None, Some(family)) => family,
            (None, None) => return Err(LoadError::NoFamily).context(file),
        };
        let listed = read.listed(family, self.only_family).map_err(LoadError::Family);
        let Listed { entries, repeated, left_out } = listed.with_context(|| file.clone())?;
        if entries.is_empty() && !self.allow_empty {
            return Err(LoadError::Empty).context(file);
        }
        let is_new = here.is_none();
        let (id, before) = match here {
            Some((id, ..)) => {
                let before = change.model().prefix_list_by_id(&id)?.entries.clone();
                change.set_entries(&id, entries)?;
                (id, before)
            }
            None => {
                let (name, tags) = (prefix_list_name(&self.list)?, Default::default());
                let new = NewPrefixList { name, family, entries, max_entries: None, tags };
                (change.create_prefix_list(new)?, Entries::default())
            }
        };
        let list = change.model().prefix_list_by_id(&id)?.clone();
        if !self.safety.force() {
            risks::check_list(change.model(), &id, &before)?;
        }
        Ok(Loaded { list, before, is_new, repeated, left_out })
    }

    fn print(&self, loaded: &Loaded) -> Result<()> {
        if self.output == Format::Json {
            return output::value(&LoadDocument::new(loaded, self.dry_run));
        }
        let Loaded { list, before, is_new, .. } = loaded;
        let mut out = output::stdout();
        let object = format!("prefix-list {}", list.name);
        if *is_new {
            let id = if self.dry_run { "(new)" } else { list.id.as_str() };
            writeln!(out, "+ {object} {id} {}", list.family.name())?;
        }
        let [mut added, mut removed, mut described] = [0_usize; 3];
        for change in before.diff(&list.entries) {
            let (count, sign, network, text) = match change {
                EntryChange::Added(network, text) => (&mut added, '+', network, text),
                EntryChange::Removed(network) => (&mut removed, '-', network, ""),
                EntryChange::Described(network, text) => (&mut described, '~', network, text),
            };
            *count += 1;
            if self.full || *count <= SHOWN {
                let text = if text.is_empty() { String::new() } else { format!(" ({text})") };
                writeln!(out, "{sign} {object} {network}{text}")?;
            }
        }
        if !self.full {
            for (sign, count) in [('+', added), ('-', removed), ('~', described)] {
                if count > SHOWN {
                    writeln!(out, "{sign} {object} {} more", count - SHOWN)?;
                }
            }
        }
        let unchanged = list.entries.len() - added - described;
        write!(out, "{object}: {added} added, {removed} removed, ")?;
        if described > 0 {
            write!(out, "{described} described, ")?;
        }
        writeln!(out, "{unchanged} unchanged")?;
        Ok(out.flush()?)
    }
}

/// Changes of each kind that are printed without `--full`.
const SHOWN: usize = 10;

/// What was made of the lines of a file.
fn remarks(read: &ListFile) -> Vec<String> {
    let mut notes = Vec::new();
    for (line, network) in &read.host_bits.first {
        notes.push(format!("line {line} has host bits and is stored as {network}"));
    }
    match read.host_bits.count - read.host_bits.first.len() {
        0 => {}
        more => notes.push(format!("{more} more lines have host bits, which are not stored")),
    }
    match read.fitted {
        0 => {}
        1 => notes
            .push("1 description is shortened, or has _ in place of other characters".to_owned()),
        more => notes.push(format!(
            "{more} descriptions are shortened, or have _ in place of other characters"
        )),
    }
    notes
}

/// What may not be meant.
fn doubts(loaded: &Loaded) -> impl Iterator<Item = String> {
    let Loaded { list, before, repeated, left_out, .. } = loaded;
    let (is, was) = (list.entries.len(), before.len());
    let repeated = (*repeated > 0).then(|| format!("{} repeated", output::many(*repeated, "line")));
    let left_out = (*left_out > 0)
        .then(|| format!("{} of the other family left out", output::many(*left_out, "line")));
    let shrinks = is < was / 2;
    let shrinks = shrinks.then(|| {
        format!(
            "warning: prefix list {} goes from {was} entries to {is}; the file may be incomplete",
            list.name
        )
    });
    [repeated, left_out, shrinks].into_iter().flatten()
}
