//! `secgroup confirm` and `secgroup rollback`

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, output};
use crate::control::confirm::{NothingPending, UnconfirmedChange};
use crate::control::watch;

/// Confirm a change that was made with --confirm.
#[derive(Debug, Args)]
#[command(after_help = "\
A change that is not confirmed before its deadline is rolled back: groups, rules, prefix lists and
attachments become what they were before it. A reboot rolls it back, too.

Examples:
  secgroup apply groups.json --confirm 1m   # then open a second session; if that works:
  secgroup confirm

Exit code 3: there is no unconfirmed change.")]
pub(super) struct Confirm {
    /// Print the unconfirmed change and the time left, and confirm nothing
    #[arg(long)]
    show: bool,
    /// Undo the change now, like `secgroup rollback`
    #[arg(long, conflicts_with = "show")]
    cancel: bool,
    /// Wait for the deadline and roll back
    #[arg(long, hide = true, conflicts_with_all = ["show", "cancel"])]
    watch: bool,
}

/// Undo a change that was made with --confirm.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 3: there is no unconfirmed change.")]
pub(super) struct Rollback {}

impl Confirm {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { show, cancel, watch } = self;
        if watch {
            watch::run(&context.paths, context.config).context("confirm --watch")?;
        } else if cancel {
            return Rollback {}.run(context);
        } else if show {
            let change = context.control_reading()?.unconfirmed_change()?.ok_or(NothingPending);
            output::lines([text(&change.context("confirm --show")?)])?;
        } else {
            let what =
                context.control_unsettled().and_then(|control| control.in_emergency().confirm());
            output::lines([format!("confirmed: {}", what.context("confirm")?)])?;
        }
        Ok(Exit::Done)
    }
}

impl Rollback {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self {} = self;
        let what =
            context.control_unsettled().and_then(|control| control.in_emergency().roll_back());
        output::lines([format!("rolled back: {}", what.context("rollback")?)])?;
        Ok(Exit::Done)
    }
}

/// The unconfirmed change, for a person.
pub(super) fn text(change: &UnconfirmedChange) -> String {
    format!(
        "unconfirmed: {}; rolled back in {} unless `secgroup confirm` keeps it",
        change.what,
        humantime::format_duration(Duration::from_secs(change.left_seconds()))
    )
}
