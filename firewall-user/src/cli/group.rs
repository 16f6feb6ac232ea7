//! `secgroup group`

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use firewall_ebpf::abi::interface::Direction;

use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit, rule};
use crate::control::{Control, Terms};
use crate::model::{self, Error, Family, Group, Identity, Interface, Model, VpcId, document, tags};
use crate::store::NewGroup;

mod staged;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a group that allows no ingress and all egress, and print its id
    #[command(
        after_help = "Example:\n  secgroup group create web --description \"web servers\" --tag team=shop"
    )]
    Create(Create),
    /// List all groups
    List(Output),
    /// Show one group with its rules
    #[command(after_help = "Example:\n  secgroup group show web --output json")]
    Show(Show),
    /// Delete a group that no interface and no other group's rule uses
    Delete {
        /// Group by id or name
        group: String,
        /// Succeed if there is no such group
        #[arg(long)]
        if_exists: bool,
    },
    /// Stage the changes of a group's rules that a document would make, in place of those that are staged
    ///
    /// Their effect is counted (`rule list --staged`), and no packet is decided by them. Descriptions, tags and ends of
    /// rules, and what the document says about other groups, are left out.
    #[command(after_help = "Example:\n  secgroup group stage web groups.json")]
    Stage(staged::Stage),
    /// Enforce all staged changes of a group
    #[command(after_help = "Example:\n  secgroup group enforce web --confirm 1m")]
    Enforce(staged::Enforce),
    /// Drop all staged changes of a group
    Unstage {
        /// Group by id or name
        group: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name: 1 to 255 letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*
    name: String,
    /// Purpose of the group; cannot be changed later
    #[arg(long, value_name = "TEXT")]
    description: String,
    /// Tag; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// Its VPC; cannot be changed later [default: the default one]
    #[arg(long, value_name = "VPC-ID")]
    vpc: Option<VpcId>,
    /// If there is a group of this name with this description and these tags, print its id
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Group by id or name
    group: String,
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
            Self::List(output) => {
                let control = context.control_reading()?;
                let model = control.model()?;
                let groups = stored(&control, &model);
                list(&model, groups, &context.config.ec2, output.output)
            }
            Self::Show(show) => show.run(context),
            Self::Delete { group, if_exists } => delete(context, &group, if_exists),
            Self::Stage(stage) => stage.run(context),
            Self::Enforce(enforce) => enforce.run(context),
            Self::Unstage { group } => staged::unstage(context, &group),
        }
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { name, description, tags, vpc, if_not_exists } = self;
        let create = || -> Result<_> {
            let new = NewGroup {
                vpc: vpc.unwrap_or_else(VpcId::default_vpc),
                name: model::group_name(&name)?,
                description: model::group_description(&description)?,
                tags: parse_tags(&tags)?,
                rules: Group::default_rules(&Family::ALL),
            };
            context.control()?.change(&Terms::default(), |change| {
                if if_not_exists && let Some(here) = change.model().group_named(&new.vpc, &new.name)
                {
                    here.check_same(&new.name, &new.description, &new.tags)?;
                    return Ok(here.id.clone());
                }
                Ok(change.create_group(new)?)
            })
        };
        output::lines([create().with_context(|| format!("create group {name}"))?])?;
        Ok(Exit::Done)
    }
}

impl Show {
    fn run(self, context: &Context) -> Result<Exit> {
        let model = context.control_reading()?.model()?;
        let group =
            model.group(&self.group).with_context(|| format!("show group {}", self.group))?;
        match self.output.output {
            Format::Json => output::json(&document::groups(&context.config.ec2, [group]))?,
            Format::Table => {
                let tags =
                    group.tags.iter().map(|(key, value)| format!("tag          {key}={value}"));
                let facts = [
                    format!("id           {}", group.id),
                    format!("name         {}", group.name),
                    format!("description  {}", group.description),
                ];
                let vpc = has_vpcs(&model).then(|| format!("vpc          {}", group.vpc));
                let interfaces = interfaces(&model, group);
                let attached =
                    interfaces.into_iter().map(|device| format!("interface    {device}"));
                output::lines(
                    facts.into_iter().chain(vpc).chain(tags).chain(attached).chain([String::new()]),
                )?;
                rule::print(&model, [group])?;
            }
        }
        Ok(Exit::Done)
    }
}

/// Whether there is a VPC besides the default one: only then it matters which one a group has.
fn has_vpcs(model: &Model) -> bool {
    model.vpcs.len() > 1
}

/// The groups of the store. Where there is none yet, the default one has another id every time.
pub(super) fn stored<'a>(control: &Control, model: &'a Model) -> Vec<&'a Group> {
    if control.store().is_absent() { Vec::new() } else { model.groups_by_id().collect() }
}

fn list(
    model: &Model,
    mut groups: Vec<&Group>,
    identity: &Identity,
    format: Format,
) -> Result<Exit> {
    groups.sort_by_key(|group| (group.name.to_ascii_lowercase(), &group.vpc));
    match format {
        Format::Json => output::json(&document::groups(identity, groups))?,
        Format::Table => table(
            [
                Column::text("GROUP"),
                Column::text("NAME"),
                Column::text("VPC").only_if(has_vpcs(model)),
                Column::number("INGRESS").dropped(3),
                Column::number("EGRESS").dropped(4),
                Column::text("INTERFACES").dropped(2),
                Column::text("DESCRIPTION").dropped(1),
            ],
            groups.into_iter().map(|group| {
                let count = |direction: Direction| {
                    let rules = group.rules.iter();
                    rules.filter(|rule| rule.spec.direction == direction).count().to_string()
                };
                [
                    group.id.to_string(),
                    group.name.clone(),
                    group.vpc.to_string(),
                    count(Direction::Ingress),
                    count(Direction::Egress),
                    output::or_dash(&interfaces(model, group).join(",")),
                    group.description.clone(),
                ]
            }),
        )?,
    }
    Ok(Exit::Done)
}

fn delete(context: &Context, word: &str, if_exists: bool) -> Result<Exit> {
    let delete = || {
        context.control()?.change(&Terms::default(), |change| {
            let id = match change.model().group(word) {
                Err(Error::GroupNotFound(_)) if if_exists => return Ok(()),
                found => found?.id.clone(),
            };
            Ok(change.delete_group(&id)?)
        })
    };
    delete().with_context(|| format!("delete group {word}"))?;
    Ok(Exit::Done)
}

/// The labels of the interfaces that the group is attached to.
fn interfaces(model: &Model, group: &Group) -> Vec<String> {
    let attached = model.interfaces.values().filter(|one| one.groups.contains(&group.id));
    attached.map(Interface::label).collect()
}

/// `--tag KEY=VALUE…`
pub(super) fn parse_tags(
    words: &[String],
) -> Result<std::collections::BTreeMap<String, String>, Error> {
    let pairs = words.iter().map(|word| tags::parse(word)).collect::<Result<Vec<_>, _>>()?;
    tags::collect(pairs)
}
