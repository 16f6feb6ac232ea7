//! `secgroup import`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::documents::{self, Counts, Run, Scope};
use super::safety::Safety;
use super::{Context, Exit, output};
use crate::model::Change;
use crate::model::apply::{Line, Others, Plan};
use crate::model::document::{Error, Parts, list_of_file};

/// Import groups, prefix lists and network ACLs from the documents that the commands of AWS print.
///
/// Any number of files, of any of these commands of `aws ec2`: describe-security-groups,
/// describe-security-group-rules (for the ids and tags of rules), describe-managed-prefix-lists,
/// get-managed-prefix-list-entries (one file for each list, with the id of the list in its name or in
/// --entries), describe-network-acls, describe-vpcs and describe-subnets. What a file has is seen by its
/// content. The files are one document, which is applied as `secgroup apply` does: all of it or nothing. What
/// the files do not have stays as it is. Peers that are not on this host are kept, and match nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup import --from-aws aws/ --dry-run
  secgroup import --from-aws groups.json lists.json pl-0123456789abcdef0.json
  secgroup import --from-aws aws/ --vpc vpc-0123456789abcdef0 --confirm 5m

Exit code 4: --dry-run, and the documents differ from the store.")]
pub(super) struct Command {
    /// Files, or directories with files whose names end with .json
    #[arg(long, required = true, num_args = 1.., value_name = "FILE|DIR")]
    from_aws: Vec<PathBuf>,
    #[command(flatten)]
    scope: Scope,
    /// Say what would change without changing it
    #[arg(long)]
    dry_run: bool,
    /// Print each change, as apply does
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    safety: Safety,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { from_aws, scope, dry_run, diff, safety } = self;
        let import = || -> Result<_> {
            let mut parts = Parts::default();
            for path in &from_aws {
                if path.is_dir() {
                    add_directory(&mut parts, path)?;
                } else {
                    add(&mut parts, path)?;
                }
            }
            scope.add_entries(&mut parts)?;
            let run = if dry_run { Run::Dry } else { Run::Real { what: "import" } };
            documents::apply(context, &mut parts, &scope.options(Others::Stay), safety, run)
        };
        let plan = import().context("import from AWS")?;
        if diff {
            let line = |line: &Line| if dry_run { line.preview() } else { line.clone() };
            output::lines(plan.lines().map(line))?;
        }
        output::lines(summary(&plan))?;
        documents::report(&Plan { others: Vec::new(), ..plan.clone() });
        Ok(if dry_run && !plan.is_empty() { Exit::Differs } else { Exit::Done })
    }
}

fn add(parts: &mut Parts, file: &Path) -> Result<()> {
    let text = documents::read(file)?;
    let name = file.display().to_string();
    parts.add(Some(name.clone()), text, list_of_file(file)).context(name)
}

/// Adds the files of a directory, except those of other commands.
fn add_directory(parts: &mut Parts, directory: &Path) -> Result<()> {
    for file in documents::files_of(directory)? {
        match add(parts, &file) {
            Err(error) if matches!(error.downcast_ref(), Some(Error::Empty)) => {
                let file = file.display();
                output::note(&format!("{file} has nothing that is imported, and is left out"));
            }
            added => added?,
        }
    }
    Ok(())
}

/// What is created and changed, and what matches nothing.
fn summary(plan: &Plan) -> Vec<String> {
    let (mut groups, mut lists, mut acls) =
        (Counts::default(), Counts::default(), Counts::default());
    let (mut vpcs, mut subnets, mut rules) =
        (Counts::default(), Counts::default(), Counts::default());
    for step in &plan.steps {
        match &step.change {
            Change::PutVpc(vpc) => put(&mut vpcs, step.lines.first(), &vpc.id),
            Change::PutSubnet(subnet) => put(&mut subnets, step.lines.first(), &subnet.id),
            Change::CreatePrefixList(list) => lists.create(&list.id),
            Change::SetEntries { list, .. }
            | Change::SetPrefixList { list, .. }
            | Change::TagPrefixList { list, .. } => lists.change(list),
            Change::CreateGroup(group) => groups.create(&group.id),
            Change::TagGroup { group, .. } => groups.change(group),
            Change::AddRule { group, rule } => {
                groups.change(group);
                rules.create(&rule.id);
            }
            Change::DescribeRule { group, rule, .. }
            | Change::SetRuleEnd { group, rule, .. }
            | Change::TagRule { group, rule, .. } => {
                groups.change(group);
                rules.change(rule);
            }
            Change::RemoveRule { group, rule } => {
                groups.change(group);
                rules.remove(rule);
            }
            Change::CreateAcl(acl) => acls.create(&acl.id),
            Change::TagAcl { acl, .. }
            | Change::PutAclEntry { acl, .. }
            | Change::RemoveAclEntry { acl, .. } => acls.change(acl),
            _ => {}
        }
    }
    let compared = plan.compared;
    let mut lines = vec![
        format!("groups        {}", groups.text(compared.groups)),
        format!("rules         {}", rules.text(compared.rules)),
        format!("prefix lists  {}", lists.text(compared.prefix_lists)),
    ];
    for (what, counts, count) in [
        ("network ACLs  ", &acls, compared.acls),
        ("VPCs          ", &vpcs, compared.vpcs),
        ("subnets       ", &subnets, compared.subnets),
    ] {
        if count > 0 || *counts != Counts::default() {
            lines.push(format!("{what}{}", counts.text(count)));
        }
    }
    if plan.foreign > 0 {
        let text = "rules with a group that is not on this host: they match nothing";
        lines.push(format!("stale         {} {text}", plan.foreign));
    }
    lines
}

fn put(counts: &mut Counts, line: Option<&Line>, id: &impl ToString) {
    use crate::model::apply::Sign;
    match line.map(|line| line.sign) {
        Some(Sign::Add) => counts.create(id),
        _ => counts.change(id),
    }
}
