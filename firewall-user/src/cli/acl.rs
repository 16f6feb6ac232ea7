//! `secgroup acl`

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::interface::Direction;

use super::ends;
use super::group::parse_tags;
use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::control::{Control, Terms};
use crate::model::{self, Acl, Error, Interface, Model, VpcId, document, tags};
use crate::store::NewAcl;

mod association;
mod entry;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a network ACL that denies everything, and print its id
    #[command(after_help = "Example:\n  secgroup acl create web --tag team=shop")]
    Create(Create),
    /// List all network ACLs
    List(Output),
    /// Show one network ACL with its entries and what they have counted
    #[command(after_help = "\
An entry counts the packets that it decided: each packet that it denied; of those that it allowed all but
the plain segments and datagrams of established connections, which are not looked up again. Entries that
the kernel does not look up have no counter.

Example:
  secgroup acl show web")]
    Show(Show),
    /// Delete a network ACL that no interface and no subnet has
    Delete {
        /// Network ACL by id or name
        acl: String,
        /// Succeed if there is no such network ACL
        #[arg(long)]
        if_exists: bool,
    },
    /// Add, replace and remove the entries of network ACLs
    #[command(subcommand)]
    Entry(entry::Command),
    /// Give interfaces a network ACL, in place of that which they have
    #[command(after_help = association::EXAMPLES)]
    Associate(association::Associate),
    /// Give interfaces the network ACL of their subnet, in place of this one
    Disassociate(association::Disassociate),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name: 1 to 255 letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*
    name: String,
    /// Tag; may be repeated. The tag Name is the name
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// If there is a network ACL of this name with these tags, print its id
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Network ACL by id or name
    acl: String,
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
            Self::List(output) => list(context, output.output),
            Self::Show(show) => show.run(context),
            Self::Delete { acl, if_exists } => delete(context, &acl, if_exists),
            Self::Entry(command) => command.run(context),
            Self::Associate(command) => command.run(context),
            Self::Disassociate(command) => command.run(context),
        }
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { name, tags: words, if_not_exists } = self;
        let create = || -> Result<_> {
            let new = NewAcl {
                vpc: VpcId::default_vpc(),
                name: model::acl_name(&name)?,
                tags: tags::of_acl(parse_tags(&words)?)?,
            };
            context.control()?.change(&Terms::default(), |change| {
                if if_not_exists && let Some(here) = change.model().acl_named(&new.vpc, &new.name) {
                    here.check_same(&new.name, &new.tags)?;
                    return Ok(here.id.clone());
                }
                Ok(change.create_acl(new)?)
            })
        };
        output::lines([create().with_context(|| format!("create network ACL {name}"))?])?;
        Ok(Exit::Done)
    }
}

impl Show {
    fn run(self, context: &Context) -> Result<Exit> {
        let what = format!("show network ACL {}", self.acl);
        self.show(context).context(what)
    }

    fn show(self, context: &Context) -> Result<Exit> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let acl = model.acl(&self.acl)?;
        match self.output.output {
            Format::Json => output::json(&document::acls(&context.config.ec2, &model, [acl]))?,
            Format::Table => {
                let counters = match control.maps()? {
                    Some(maps) => maps.rule_counters()?,
                    None => BTreeMap::new(),
                };
                print(&model, acl, &counters)?;
            }
        }
        Ok(Exit::Done)
    }
}

fn print(model: &Model, acl: &Acl, counters: &BTreeMap<u32, Counter>) -> Result<()> {
    let facts = [format!("id         {}", acl.id), format!("name       {}", acl.name)];
    let default = acl.is_default.then(|| "default    yes".to_owned());
    let tags = acl.tags.iter().map(|(key, value)| format!("tag        {key}={value}"));
    let subnets = model.subnets.values();
    let subnets = subnets.filter(|subnet| subnet.acl.as_ref() == Some(&acl.id));
    let subnets = subnets.map(|subnet| format!("subnet     {}", subnet.id));
    let associated = interfaces(model, acl).into_iter().map(|label| format!("interface  {label}"));
    let facts = facts.into_iter().chain(default).chain(tags).chain(subnets).chain(associated);
    output::lines(facts.chain([String::new()]))?;
    let has_ends = acl.entries.values().any(|entry| entry.end.is_some());
    let entries = Direction::ALL.into_iter().flat_map(|direction| {
        acl.entries_of(direction).map(move |(number, entry)| (direction, number, entry))
    });
    table(
        [
            Column::text("DIRECTION"),
            Column::number("NUMBER"),
            Column::text("ACTION"),
            Column::text("PROTOCOL"),
            Column::text("PORTS"),
            Column::text("PEER"),
            Column::number("PACKETS"),
            Column::number("BYTES").dropped(1),
            Column::text("LEFT").only_if(has_ends),
        ],
        entries.map(|(direction, number, entry)| {
            let counter = counters.get(&entry.number);
            let count = |of: fn(&Counter) -> u64| {
                counter.map_or_else(|| "-".to_owned(), |counter| of(counter).to_string())
            };
            [
                direction.name().to_owned(),
                number.to_string(),
                entry.action.name().to_owned(),
                entry.traffic.protocol_word(),
                entry.traffic.ports(),
                model.peer_text(&entry.peer),
                count(|counter| counter.packets),
                count(|counter| counter.bytes),
                ends::left(entry.end),
            ]
        }),
    )
}

fn list(context: &Context, format: Format) -> Result<Exit> {
    let control = context.control_reading()?;
    let model = &control.model()?;
    let mut acls = stored(&control, model);
    acls.sort_by_key(|acl| acl.name.to_ascii_lowercase());
    match format {
        Format::Json => output::json(&document::acls(&context.config.ec2, model, acls))?,
        Format::Table => table(
            [
                Column::text("NETWORK ACL"),
                Column::text("NAME"),
                Column::number("INGRESS").dropped(3),
                Column::number("EGRESS").dropped(2),
                Column::text("DEFAULT").dropped(1),
                Column::text("INTERFACES"),
            ],
            acls.into_iter().map(|acl| {
                [
                    acl.id.to_string(),
                    acl.name.clone(),
                    acl.changeable(Direction::Ingress).to_string(),
                    acl.changeable(Direction::Egress).to_string(),
                    if acl.is_default { "yes" } else { "no" }.to_owned(),
                    output::or_dash(&interfaces(model, acl).join(",")),
                ]
            }),
        )?,
    }
    Ok(Exit::Done)
}

fn delete(context: &Context, word: &str, if_exists: bool) -> Result<Exit> {
    let delete = || {
        context.control()?.change(&Terms::default(), |change| {
            let id = match change.model().acl(word) {
                Err(Error::AclNotFound(_)) if if_exists => return Ok(()),
                found => found?.id.clone(),
            };
            Ok(change.delete_acl(&id)?)
        })
    };
    delete().with_context(|| format!("delete network ACL {word}"))?;
    Ok(Exit::Done)
}

/// The network ACLs of the store. Where there is none yet, the default one has another id every time.
pub(super) fn stored<'a>(control: &Control, model: &'a Model) -> Vec<&'a Acl> {
    if control.store().is_absent() { Vec::new() } else { model.acls.values().collect() }
}

/// The labels of the interfaces that have the network ACL.
fn interfaces(model: &Model, acl: &Acl) -> Vec<String> {
    let has_it =
        |one: &&Interface| model.acl_of(one).is_some_and(|of_interface| of_interface.id == acl.id);
    model.interfaces.values().filter(has_it).map(Interface::label).collect()
}
