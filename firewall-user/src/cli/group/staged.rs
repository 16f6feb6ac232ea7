//! `secgroup group stage`, `enforce` and `unstage`: all staged changes of a group.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::cli::safety::Safety;
use crate::cli::{Context, Exit, input};
use crate::clock::Clocks;
use crate::model::apply::{Options, Plan};
use crate::model::document::Parts;
use crate::model::{Change, GroupId, Model, NewRule, RuleId};

#[derive(Debug, Args)]
pub(in crate::cli) struct Stage {
    /// Group by id or name
    group: String,
    /// File with a document, as of `secgroup apply`, that has the group; - is standard input
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Enforce {
    /// Group by id or name
    group: String,
    #[command(flatten)]
    safety: Safety,
}

impl Stage {
    pub(in crate::cli) fn run(self, context: &Context) -> Result<Exit> {
        let Self { group, file } = self;
        let stage = || -> Result<()> {
            let mut parts = Parts::default();
            parts.add(None, input::read(&file)?, None)?;
            let mut document = parts.join()?;
            document.now = Clocks::now().moment;
            Safety::default().change(context, &format!("group stage {group}"), |change| {
                let id = change.model().group(&group)?.id.clone();
                let limits = *change.limits();
                let plan = Plan::with(change.model(), &document, &limits, &Options::default())
                    .map_err(|errors| parts.located(errors))?;
                let (mut added, mut removed) = (Vec::new(), Vec::new());
                for step in plan.steps {
                    match step.change {
                        Change::AddRule { group, rule } if group == id => {
                            added.push(NewRule::new(rule.spec, &rule.description)?);
                        }
                        Change::RemoveRule { group, rule } if group == id => removed.push(rule),
                        _ => {}
                    }
                }
                // What was staged before is of an earlier document, or of none.
                let before = staged(change.model(), &id);
                change.unstage(&id, &before)?;
                change.stage_removals(&id, &removed)?;
                Ok(change.stage_rules(&id, added).map(drop)?)
            })
        };
        stage().with_context(|| format!("stage changes of group {group}"))?;
        Ok(Exit::Done)
    }
}

impl Enforce {
    pub(in crate::cli) fn run(self, context: &Context) -> Result<Exit> {
        let Self { group, safety } = self;
        let enforce = || {
            safety.change(context, &format!("group enforce {group}"), |change| {
                let id = change.model().group(&group)?.id.clone();
                let all = staged(change.model(), &id);
                Ok(change.enforce_staged(&id, &all)?)
            })
        };
        enforce().with_context(|| format!("enforce staged changes of group {group}"))?;
        Ok(Exit::Done)
    }
}

/// Drops all staged changes of a group.
pub(in crate::cli) fn unstage(context: &Context, group: &str) -> Result<Exit> {
    let unstage = || {
        Safety::default().change(context, &format!("group unstage {group}"), |change| {
            let id = change.model().group(group)?.id.clone();
            let all = staged(change.model(), &id);
            Ok(change.unstage(&id, &all)?)
        })
    };
    unstage().with_context(|| format!("unstage changes of group {group}"))?;
    Ok(Exit::Done)
}

fn staged(model: &Model, group: &GroupId) -> Vec<RuleId> {
    model.staged_of(group).map(|(id, _)| id.clone()).collect()
}
