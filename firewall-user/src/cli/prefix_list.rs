//! `secgroup prefix-list`

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::block::risks;
use super::group::parse_tags;
use super::output::{self, Format, Output};
use super::safety::Safety;
use super::table::{Column, table};
use super::{Context, Exit};
use crate::control::Terms;
use crate::model::{
    Entries, Error, Family, Identity, Model, document, parse_cidr, parse_entry, prefix_list_name,
    rule_description,
};
use crate::store::NewPrefixList;

mod load;
mod loaded;

pub(super) use load::LoadError;
pub(super) use loaded::LoadDocument;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a prefix list, and print its id
    #[command(after_help = "\
Example:
  secgroup prefix-list create offices --family ipv4 --entry 192.0.2.0/24 --entry 198.51.100.0/24")]
    Create(Create),
    /// Add entries to a prefix list
    Add(Add),
    /// Remove entries from a prefix list
    Remove(Remove),
    Load(load::Load),
    /// List all prefix lists
    List(Output),
    /// Show one prefix list with its entries
    Show(Show),
    /// Delete a prefix list that no rule uses
    Delete {
        /// Prefix list by id or name
        list: String,
        /// Succeed if there is no such prefix list
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name: 1 to 255 letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*
    name: String,
    /// Address family of the entries; cannot be changed later
    #[arg(long, value_enum)]
    family: Family,
    /// Network; may be repeated
    #[arg(long = "entry", value_name = "CIDR", num_args = 1..)]
    entries: Vec<String>,
    /// Description of these entries
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Tag; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// If there is a prefix list of this name with this family and these entries and tags, print its id
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// Prefix list by id or name
    list: String,
    /// Network; may be repeated
    #[arg(long = "entry", value_name = "CIDR", num_args = 1.., required = true)]
    entries: Vec<String>,
    /// Description of these entries
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Leave out entries that the list has with this description
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    safety: Safety,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Prefix list by id or name
    list: String,
    /// Network; may be repeated
    #[arg(long = "entry", value_name = "CIDR", num_args = 1.., required = true)]
    entries: Vec<String>,
    /// Leave out entries that the list does not have
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    safety: Safety,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Prefix list by id or name
    list: String,
    #[command(flatten)]
    output: Output,
}

impl Command {
    /// See [`super::Command::needs_configuration`].
    pub(super) const fn needs_configuration(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Show(_))
    }

    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Create(create) => create.run(context),
            Self::Add(add) => add.run(context),
            Self::Remove(remove) => remove.run(context),
            Self::Load(load) => load.run(context),
            Self::List(output) => {
                let model = context.control_reading()?.model()?;
                list(&model, &context.config.ec2, output.output)
            }
            Self::Show(show) => show.run(context),
            Self::Delete { list, if_exists } => delete(context, &list, if_exists),
        }
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { name, family, entries, description, tags, if_not_exists } = self;
        let create = || -> Result<_> {
            let new = NewPrefixList {
                name: prefix_list_name(&name)?,
                family,
                entries: parse_entries(&entries, Some(family), description.as_deref())?,
                max_entries: None,
                tags: parse_tags(&tags)?,
            };
            context.control()?.change(&Terms::default(), |change| {
                if if_not_exists && let Some(here) = change.model().prefix_list_named(&new.name) {
                    here.check_same(&new.name, new.family, &new.entries, &new.tags)?;
                    return Ok(here.id.clone());
                }
                Ok(change.create_prefix_list(new)?)
            })
        };
        output::lines([create().with_context(|| format!("create prefix list {name}"))?])?;
        output::note_networks(&entries);
        Ok(Exit::Done)
    }
}

impl Add {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { list, entries: words, description, if_not_exists, safety } = self;
        let add = || -> Result<_> {
            let entries = parse_entries(&words, None, description.as_deref())?;
            safety.change(context, &format!("prefix-list add {list}"), |change| {
                let here = change.model().prefix_list(&list)?;
                let mut new = Vec::new();
                for (network, description) in &entries {
                    if !if_not_exists || !here.check_same_entry(&network, description)? {
                        new.push((network, description.to_owned()));
                    }
                }
                let (id, before) = (here.id.clone(), here.entries.clone());
                change.add_entries(&id, &new.into_iter().collect())?;
                if !safety.force() {
                    risks::check_list(change.model(), &id, &before)?;
                }
                Ok(())
            })
        };
        add().with_context(|| format!("add to prefix list {list}"))?;
        output::note_networks(&words);
        Ok(Exit::Done)
    }
}

impl Remove {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { list, entries, if_exists, safety } = self;
        let remove = || -> Result<_> {
            let entries = parse_entries(&entries, None, None)?;
            safety.change(context, &format!("prefix-list remove {list}"), |change| {
                let here = change.model().prefix_list(&list)?;
                let networks = entries.networks().iter();
                let gone = networks.filter(|network| !if_exists || here.entries.contains(network));
                let (id, gone) = (here.id.clone(), gone.collect());
                Ok(change.remove_entries(&id, &gone)?)
            })
        };
        remove().with_context(|| format!("remove from prefix list {list}"))?;
        Ok(Exit::Done)
    }
}

impl Show {
    fn run(self, context: &Context) -> Result<Exit> {
        let model = context.control_reading()?.model()?;
        let list = model
            .prefix_list(&self.list)
            .with_context(|| format!("show prefix list {}", self.list))?;
        match self.output.output {
            Format::Json => output::json(&document::prefix_lists(&context.config.ec2, [list]))?,
            Format::Table => {
                let tags = list.tags.iter().map(|(key, value)| format!("tag      {key}={value}"));
                let facts = [
                    format!("id       {}", list.id),
                    format!("name     {}", list.name),
                    format!("family   {}", list.family.name()),
                    format!("version  {}", list.version),
                ];
                let size = list.max_entries.map(|max| format!("max      {max}"));
                let owner = list.is_aws.then(|| "owner    AWS".to_owned());
                output::lines(
                    facts.into_iter().chain(size).chain(owner).chain(tags).chain([String::new()]),
                )?;
                let entries = list.entries.iter();
                table(
                    [Column::text("ENTRY"), Column::text("DESCRIPTION")],
                    entries.map(|(network, description)| {
                        [network.to_string(), output::or_dash(description)]
                    }),
                )?;
            }
        }
        Ok(Exit::Done)
    }
}

fn list(model: &Model, identity: &Identity, format: Format) -> Result<Exit> {
    let mut lists: Vec<_> = model.prefix_lists.values().collect();
    lists.sort_by_key(|list| list.name.to_ascii_lowercase());
    match format {
        Format::Json => output::json(&document::prefix_lists(identity, lists))?,
        Format::Table => table(
            [
                Column::text("PREFIX LIST"),
                Column::text("NAME"),
                Column::text("FAMILY").dropped(2),
                Column::number("VERSION").dropped(1),
                Column::number("ENTRIES").dropped(3),
            ],
            lists.into_iter().map(|list| {
                [
                    list.id.to_string(),
                    list.name.clone(),
                    list.family.name().to_owned(),
                    list.version.to_string(),
                    list.entries.len().to_string(),
                ]
            }),
        )?,
    }
    Ok(Exit::Done)
}

fn delete(context: &Context, word: &str, if_exists: bool) -> Result<Exit> {
    let delete = || {
        context.control()?.change(&Terms::default(), |change| {
            let id = match change.model().prefix_list(word) {
                Err(Error::PrefixListNotFound(_)) if if_exists => return Ok(()),
                found => found?.id.clone(),
            };
            Ok(change.delete_prefix_list(&id)?)
        })
    };
    delete().with_context(|| format!("delete prefix list {word}"))?;
    Ok(Exit::Done)
}

/// Networks with one description. Without a family, the store checks that of the list.
fn parse_entries(
    words: &[String],
    family: Option<Family>,
    description: Option<&str>,
) -> Result<Entries, Error> {
    let description = rule_description(description.unwrap_or_default())?;
    let mut entries = BTreeMap::new();
    for word in words {
        let network = match family {
            Some(family) => parse_entry(word, family)?,
            None => parse_cidr(word)?,
        };
        if entries.insert(network, description.clone()).is_some() {
            return Err(Error::EntryRepeated(network));
        }
    }
    Ok(entries.into_iter().collect())
}
