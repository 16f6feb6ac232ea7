//! What the commands share that apply documents.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::block::risks;
use super::failure::UsageError;
use super::safety::Safety;
use super::{Context, input, output};
use crate::clock::Clocks;
use crate::model::apply::{Options, Others, Plan};
use crate::model::document::Parts;
use crate::model::{Change, Entries, Model, PrefixListId, VpcId};
use crate::store::Transaction;

/// Which VPCs of a document are applied, and documents with entries of prefix lists.
#[derive(Debug, Args)]
pub(super) struct Scope {
    /// Apply only the groups, network ACLs and subnets of this VPC; may be repeated. If this host does not have
    /// it, its default VPC takes its place
    #[arg(long = "vpc", value_name = "VPC-ID")]
    vpcs: Vec<VpcId>,
    /// Create the VPCs that this host does not have, with their ids. Without it a document may have one such VPC,
    /// whose place the default VPC takes, and those in its Vpcs, which are created
    #[arg(long)]
    create_vpcs: bool,
    /// Read the entries of a prefix list from a document of `aws ec2 get-managed-prefix-list-entries`; may be
    /// repeated
    #[arg(long = "entries", value_name = "LIST-ID=FILE")]
    entries: Vec<String>,
}

impl Scope {
    /// The options of a plan.
    pub(super) fn options(&self, others: Others) -> Options {
        Options { others, vpcs: self.vpcs.clone(), create_vpcs: self.create_vpcs }
    }

    /// Adds the documents with entries.
    pub(super) fn add_entries(&self, parts: &mut Parts) -> Result<()> {
        for word in &self.entries {
            let (id, file) = word.split_once('=').ok_or_else(|| UsageError {
                message: format!("--entries {word:?} is not of the form LIST-ID=FILE"),
                hint: "write for example --entries pl-0123456789abcdef0=entries.json",
            })?;
            let id: PrefixListId = id.parse()?;
            let file = Path::new(file);
            let text = read(file)?;
            parts
                .add(Some(file.display().to_string()), text, Some(id))
                .with_context(|| name(file))?;
        }
        Ok(())
    }
}

/// Reads a file; an error names it.
pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    input::read(file).with_context(|| name(file))
}

fn name(file: &Path) -> String {
    file.display().to_string()
}

/// Makes the edits that documents need, or only says which.
pub(super) fn apply(
    context: &Context,
    parts: &mut Parts,
    options: &Options,
    safety: Safety,
    run: Run<'_>,
) -> Result<Plan> {
    let mut document = parts.join()?;
    document.now = Clocks::now().moment;
    let parts = &*parts;
    let edit = |change: &mut Transaction<'_>| {
        let mut plan = Plan::with(change.model(), &document, change.limits(), options)
            .map_err(|errors| parts.located(errors))?;
        plan.warnings.iter_mut().for_each(|warning| *warning = parts.named(warning));
        let blocked = blocked_lists(change.model(), &plan);
        change.apply(&plan)?;
        if !safety.force() {
            for (list, before) in &blocked {
                risks::check_list(change.model(), list, before)?;
            }
        }
        Ok(plan)
    };
    match run {
        Run::Dry => context.control_existing()?.dry_run(&safety.terms("apply"), edit),
        Run::Real { what } => safety.change(context, what, edit),
    }
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run<'a> {
    /// No.
    Dry,
    /// Yes.
    Real {
        /// The command that makes it.
        what: &'a str,
    },
}

/// The prefix lists that are blocked and get other entries, with those that they have.
fn blocked_lists(model: &Model, plan: &Plan) -> Vec<(PrefixListId, Entries)> {
    let changed = plan.steps.iter().filter_map(|step| match &step.change {
        Change::SetEntries { list, .. } if risks::is_blocked(model, list) => Some(list),
        _ => None,
    });
    let lists = changed.filter_map(|list| model.prefix_lists.get(list));
    lists.map(|list| (list.id.clone(), list.entries.clone())).collect()
}

/// Names and warnings that are printed; of more there is a count.
const MOST: usize = 100;

/// Says what the document leaves as it is, and what may not be meant.
pub(super) fn report(plan: &Plan) {
    for warning in plan.warnings.iter().take(MOST) {
        output::note(&format!("warning: {warning}"));
    }
    if plan.warnings.len() > MOST {
        output::note(&format!("and {} more warnings", plan.warnings.len() - MOST));
    }
    if !plan.others.is_empty() {
        let mut names = plan.others.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
        if plan.others.len() > MOST {
            let _ = write!(names, " and {} more", plan.others.len() - MOST);
        }
        output::note(&format!("not in the document, and unchanged: {names}"));
    }
}

/// The files of a directory whose names end with `.json`, in the order of their names.
pub(super) fn files_of(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    list().with_context(|| name(directory))
}

/// How many objects of one kind a plan creates, changes and leaves as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    created: HashSet<String>,
    changed: HashSet<String>,
    removed: HashSet<String>,
}

impl Counts {
    pub(super) fn create(&mut self, id: &impl ToString) {
        self.created.insert(id.to_string());
    }

    pub(super) fn change(&mut self, id: &impl ToString) {
        let id = id.to_string();
        if !self.created.contains(&id) {
            self.changed.insert(id);
        }
    }

    pub(super) fn remove(&mut self, id: &impl ToString) {
        self.removed.insert(id.to_string());
    }

    /// `12 created, 3 changed, 40 as they were`; `compared`: of how many.
    pub(super) fn text(&self, compared: usize) -> String {
        let (created, changed) = (self.created.len(), self.changed.len());
        let same = compared.saturating_sub(created + changed);
        let parts = [
            (created, "created"),
            (changed, "changed"),
            (self.removed.len(), "removed"),
            (same, "as they were"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts.map(|(count, what)| format!("{count} {what}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }
}
