//! `secgroup rule`

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum as _};
use firewall_ebpf::abi::interface::Direction;

use super::ends::EndOptions;
use super::failure::{self, UsageError};
use super::output::{self, Format};
use super::safety::Safety;
use super::{Context, Exit};
use crate::model::{Error, Group, Model, NewRule, Rule, RuleId, rule_description};

pub(super) mod hits;
mod list;
pub(super) mod redundant;
mod selector;
pub(super) mod staged;

use hits::{Unused, Users};
use list::List;
pub(super) use list::print;
use selector::{Parsed, Selector};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add rules to a group, and print their ids
    #[command(after_help = "\
Examples:
  secgroup rule add web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8 --cidr 2001:db8::/32
  secgroup rule add web ingress --protocol icmp --icmp 8 --cidr 0.0.0.0/0 --description ping
  secgroup rule add db ingress --protocol tcp --port 5432 --group web
  secgroup rule add web egress --protocol all --cidr ::/0
  secgroup rule add web ingress --protocol tcp --port 22 --cidr 203.0.113.7/32 --for 2h")]
    Add(Add),
    /// Remove rules from a group
    #[command(after_help = "\
Examples:
  secgroup rule remove web sgr-0123456789abcdef0
  secgroup rule remove web sgr-0123456789abcdef0 --preview
  secgroup rule remove web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8")]
    Remove(Remove),
    /// Set when rules end by themselves; they keep their counters and flows
    #[command(after_help = "\
Examples:
  secgroup rule set-end web sgr-0123456789abcdef0 --for 1h
  secgroup rule set-end web sgr-0123456789abcdef0 --never")]
    SetEnd(SetEnd),
    /// List the rules of a group, or of all groups
    #[command(after_help = "\
With --hits, what each rule was used for: packets and bytes with those of its flows, new flows, and when
it was used first and last. `secgroup serve` counts all the time; without it, this command counts what
the kernel's counters and the live flows tell.")]
    List(List),
    /// List the rules that no packet used for a time
    #[command(after_help = "\
It refuses a time that was not watched as a whole (`secgroup serve`), and says how long was watched; then
the exit code is 3.

Examples:
  secgroup rule unused --since 30d
  secgroup rule unused web --since 12h --output json")]
    Unused(Unused),
    /// Show who uses a rule: its live flows, and the peers with the most bytes
    #[command(after_help = "\
A flow is listed under the rule that admitted it, whichever rule would admit it now.

Example:
  secgroup rule users sgr-0123456789abcdef0")]
    Users(Users),
    /// Name the rules that others make unnecessary: shadowed by one, or redundant because of several
    ///
    /// All that is named can be removed, and no packet has another verdict or is tracked otherwise. A rule that ends
    /// covers none that ends later.
    #[command(after_help = "\
Examples:
  secgroup rule redundant web
  secgroup rule redundant --interface eth0 --output json")]
    Redundant(redundant::Command),
    /// Stage rules to be added: their effect is counted, and no packet is decided by them; print their ids
    #[command(after_help = "\
Examples:
  secgroup rule stage web ingress --protocol tcp --port https --cidr 198.51.100.0/24
  secgroup rule list web --staged")]
    Stage(staged::Stage),
    /// Stage the removal of rules: what it would drop is counted, and the rules stay in force
    #[command(after_help = "\
Example:
  secgroup rule stage-removal web sgr-0123456789abcdef0")]
    StageRemoval(staged::Ids),
    /// Drop staged changes of rules
    #[command(after_help = "\
Example:
  secgroup rule unstage web sgr-0123456789abcdef0")]
    Unstage(staged::Ids),
    /// Enforce staged changes: the rules are added, with the ids that they have, and removed
    #[command(after_help = "\
Example:
  secgroup rule enforce web sgr-0123456789abcdef0 --confirm 1m")]
    Enforce(staged::Enforce),
}

#[derive(Debug, Args)]
#[command(
    mut_arg("protocol", |arg| arg.required(true)),
    mut_group("peer", |group| group.required(true))
)]
pub(super) struct Add {
    /// Group by id or name
    group: String,
    /// Direction of the connections that the rule allows
    #[arg(value_enum)]
    direction: Direction,
    #[command(flatten)]
    selector: Selector,
    /// Purpose of the rule
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    ends: EndOptions,
    /// Where the group has such a rule with this description, print the rule's id. With --for it may
    /// end at any time, with --until only at this one
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    safety: Safety,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Group by id or name
    group: String,
    /// Ids of rules; or ingress or egress, with the options that the rules were added with
    #[arg(required = true, value_name = "RULE-ID…|ingress|egress")]
    rules: Vec<String>,
    #[command(flatten)]
    selector: Selector,
    /// Succeed if the group does not have such a rule
    #[arg(long)]
    if_exists: bool,
    /// Show what the removal would affect, and remove nothing
    #[arg(long)]
    preview: bool,
    /// Form of the preview
    #[arg(long, value_enum, value_name = "FORMAT", requires = "preview")]
    output: Option<Format>,
    #[command(flatten)]
    safety: Safety,
}

#[derive(Debug, Args)]
pub(super) struct SetEnd {
    /// Group by id or name
    group: String,
    /// Ids of rules
    #[arg(required = true, value_name = "RULE-ID")]
    rules: Vec<String>,
    #[command(flatten)]
    ends: EndOptions,
    /// Make them rules that do not end by themselves
    #[arg(long, conflicts_with = "end")]
    never: bool,
    #[command(flatten)]
    safety: Safety,
}

impl Command {
    /// See [`super::Command::needs_configuration`].
    pub(super) const fn needs_configuration(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Unused(_) | Self::Users(_) | Self::Redundant(_))
    }

    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Add(add) => add.run(context),
            Self::Remove(remove) => remove.run(context),
            Self::SetEnd(set) => set.run(context),
            Self::List(list) => list.run(context),
            Self::Unused(unused) => unused.run(context),
            Self::Users(users) => users.run(context),
            Self::Redundant(command) => command.run(context),
            Self::Stage(stage) => stage.run(context),
            Self::StageRemoval(ids) => ids.stage_removal(context),
            Self::Unstage(ids) => ids.unstage(context),
            Self::Enforce(enforce) => enforce.run(context),
        }
    }
}

impl Add {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { group, direction, selector, description, ends, if_not_exists, safety } = self;
        let add = || -> Result<_> {
            let rule = selector.parse_new(direction)?;
            let description = rule_description(&description.unwrap_or_default())?;
            safety.change(context, &format!("rule add {group}"), |change| {
                let here = change.model().group(&group)?.clone();
                let end = ends.end()?;
                let mut ids = BTreeMap::new();
                let mut new = Vec::new();
                for (index, spec) in rule.specs(change.model())?.into_iter().enumerate() {
                    let known = if if_not_exists { here.rule_with(&spec).ok() } else { None };
                    if let Some(known) = known {
                        known.check_same(&description)?;
                        known.check_same_end(end, ends.is_until())?;
                        ids.insert(index, known.id.clone());
                    } else {
                        new.push((index, NewRule { spec, description: description.clone(), end }));
                    }
                }
                let (places, new): (Vec<_>, Vec<_>) = new.into_iter().unzip();
                if !new.is_empty() {
                    ids.extend(places.into_iter().zip(change.add_rules(&here.id, new)?));
                }
                Ok(ids.into_values())
            })
        };
        output::lines(add().with_context(|| format!("add rule to group {group}"))?)?;
        selector.note_networks();
        Ok(Exit::Done)
    }
}

impl SetEnd {
    fn run(self, context: &Context) -> Result<Exit> {
        let Self { group, rules, ends, never, safety } = self;
        let set = || {
            if !never && !ends.is_given() {
                return Err(UsageError {
                    message: "the end is missing".to_owned(),
                    hint: "use --for, --until or --never",
                }
                .into());
            }
            let ids = parse_ids(&rules)?;
            safety.change(context, &format!("rule set-end {group}"), |change| {
                let id = change.model().group(&group)?.id.clone();
                let end = ends.end()?;
                Ok(ids.iter().try_for_each(|rule| change.set_rule_end(&id, rule, end))?)
            })
        };
        set().with_context(|| format!("set the end of rules of group {group}"))?;
        Ok(Exit::Done)
    }
}

impl Remove {
    fn run(self, context: &Context) -> Result<Exit> {
        let group = self.group.clone();
        self.remove(context).with_context(|| format!("remove rule from group {group}"))?;
        Ok(Exit::Done)
    }

    fn remove(self, context: &Context) -> Result<()> {
        let choice = self.choice()?;
        let Self { group, if_exists, preview, output, safety, .. } = self;
        if preview {
            let control = context.control_reading()?;
            let model = control.model()?;
            let group = model.group(&group)?;
            let ids = choice.ids(&model, group, if_exists)?;
            let rules: Vec<&Rule> = ids.iter().filter_map(|id| group.rule(id).ok()).collect();
            let terms = safety.terms(&format!("rule remove {}", group.name));
            let id = group.id.clone();
            // With the lockout check, as the removal itself.
            let removal = context.control_existing().and_then(|mut control| {
                control.dry_run(&terms, |change| Ok(change.remove_rules(&id, &ids)?))
            });
            let refused = removal.err();
            let format = output.unwrap_or(Format::Table);
            hits::print_preview((&control, &model), (group, &rules), refused.as_ref(), format)?;
            if let Some(error) = refused {
                failure::warn_with_hint(&error.context("the removal would be refused"));
            }
            return Ok(());
        }
        safety.change(context, &format!("rule remove {group}"), |change| {
            let group = change.model().group(&group)?;
            let ids = choice.ids(change.model(), group, if_exists)?;
            let id = group.id.clone();
            Ok(change.remove_rules(&id, &ids)?)
        })
    }

    /// What the arguments name.
    fn choice(&self) -> Result<Choice> {
        let Self { rules, selector, .. } = self;
        let direction = rules.first().and_then(|word| Direction::from_str(word, false).ok());
        match (direction, selector.is_empty()) {
            (Some(direction), false) if rules.len() == 1 => {
                Ok(Choice::Parsed(selector.parse(direction)?))
            }
            (None, true) => Ok(Choice::Ids(parse_ids(rules)?)),
            _ => Err(UsageError {
                message: "give either ids of rules, or a direction and options".to_owned(),
                hint: "`secgroup rule remove --help` has an example of each",
            }
            .into()),
        }
    }
}

/// Rules to be removed.
enum Choice {
    Ids(Vec<RuleId>),
    Parsed(Parsed),
}

impl Choice {
    /// Their ids; those that the group does not have are an error, or left out.
    fn ids(&self, model: &Model, group: &Group, if_exists: bool) -> Result<Vec<RuleId>> {
        Ok(match self {
            Self::Ids(given) => ids(given.iter().map(|id| group.rule(id)), if_exists)?,
            Self::Parsed(rule) => {
                let specs = rule.specs(model)?;
                ids(specs.iter().map(|spec| group.rule_with(spec)), if_exists)?
            }
        })
    }
}

/// The ids of rules; those that the group does not have are an error, or left out.
fn ids<'a>(
    found: impl Iterator<Item = Result<&'a Rule, Error>>,
    if_exists: bool,
) -> Result<Vec<RuleId>, Error> {
    let is_absent = |error: &Error| {
        matches!(error, Error::RuleNotFound { .. } | Error::PermissionNotFound { .. })
    };
    found
        .filter(|rule| !(if_exists && rule.as_ref().is_err_and(is_absent)))
        .map(|rule| rule.map(|rule| rule.id.clone()))
        .collect()
}

fn parse_ids(words: &[String]) -> Result<Vec<RuleId>> {
    let mut ids = words.iter().map(|word| word.parse()).collect::<Result<Vec<RuleId>, _>>()?;
    // An id that is given twice is removed once.
    ids.sort();
    ids.dedup();
    Ok(ids)
}
