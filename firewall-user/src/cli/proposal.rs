//! A configuration that is proposed: a document, or the staged changes.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgGroup, Args};

use super::documents::{self, Scope};
use super::input;
use crate::clock::Clocks;
use crate::control::Control;
use crate::model::Model;
use crate::model::apply::{Line, Others, Plan, Sign};
use crate::model::document::Parts;
use crate::model::{Staged, StagedChange};

/// What is proposed.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("proposed").args(["file", "staged"]).required(true)))]
pub(super) struct Proposal {
    /// File with the document, as of `secgroup apply`; - is standard input
    file: Option<PathBuf>,
    /// The staged changes of rules, instead of a document
    #[arg(long)]
    staged: bool,
    #[command(flatten)]
    scope: Scope,
    /// As if `secgroup apply` removed the groups and network ACLs that the document does not have
    #[arg(long, conflicts_with = "staged")]
    prune: bool,
}

/// What a proposal would make of the store.
pub(super) struct Proposed {
    /// The changes.
    pub(super) lines: Vec<Line>,
    /// The model with them.
    pub(super) model: Model,
}

impl Proposal {
    /// The proposal as text, for errors.
    pub(super) fn text(&self) -> String {
        self.file.as_ref().map_or_else(|| "--staged".to_owned(), |file| file.display().to_string())
    }

    /// Reads it. Nothing is stored.
    pub(super) fn read(&self, control: &Control, model: &Model) -> Result<Proposed> {
        let Some(file) = &self.file else { return Ok(of_staged(model)) };
        let mut parts = Parts::default();
        parts.add(None, input::read(file)?, None)?;
        self.scope.add_entries(&mut parts)?;
        let mut document = parts.join()?;
        document.now = Clocks::now().moment;
        let others = if self.prune { Others::Go } else { Others::Stay };
        let limits = control.config().limits.in_force();
        let mut plan = Plan::with(model, &document, &limits, &self.scope.options(others))
            .map_err(|errors| parts.located(errors))?;
        plan.warnings.iter_mut().for_each(|warning| *warning = parts.named(warning));
        documents::report(&plan);
        let lines = plan.lines().map(Line::preview).collect();
        Ok(Proposed { lines, model: plan.result(model) })
    }
}

fn of_staged(model: &Model) -> Proposed {
    let line = |(id, Staged { group, change, created: _ }): (&_, &Staged)| {
        let group = model.groups.get(group)?;
        let (sign, spec) = match change {
            StagedChange::Add { spec, .. } => (Sign::Add, spec),
            StagedChange::Remove => (Sign::Remove, &group.rule(id).ok()?.spec),
        };
        Some(Line {
            sign,
            object: model.group_label(group),
            id: Some(id.to_string()),
            is_generated: false,
            text: model.spec_text(spec),
        })
    };
    let lines = model.staged.iter().filter_map(line).collect();
    Proposed { lines, model: model.with_staged(None) }
}
