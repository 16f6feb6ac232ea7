//! `secgroup confirm` and `secgroup rollback`

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::{Context, Exit, output};
use crate::control::confirm::{NothingPending, Waiting};
use crate::control::watch;

/// Keep a change that was made with --confirm.
#[derive(Debug, Args)]
#[command(after_help = "\
A change that is not confirmed in time is taken back: groups, rules, prefix lists and attachments
are what they were before. So it is after a reboot.

Examples:
  secgroup apply groups.json --confirm 1m   # then open a second session; if that works:
  secgroup confirm

Exits with 3 if no change waits.")]
pub(super) struct Confirm {
    /// Only tell what waits, and for how long
    #[arg(long)]
    show: bool,
    /// Take the change back now, as `secgroup rollback`
    #[arg(long, conflicts_with = "show")]
    cancel: bool,
    /// Wait for the deadline
    #[arg(long, hide = true, conflicts_with_all = ["show", "cancel"])]
    watch: bool,
}

/// Take back a change that was made with --confirm, without waiting for its deadline.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 3 if no change waits.")]
pub(super) struct Rollback {}

impl Confirm {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { show, cancel, watch } = self;
        if watch {
            watch::run(&context.paths, context.config).context("confirm --watch")?;
        } else if cancel {
            return Rollback {}.run(context);
        } else if show {
            let waiting = context.control()?.waiting()?.ok_or(NothingPending);
            output::lines([text(&waiting.context("confirm --show")?)])?;
        } else {
            let what = context.control().and_then(|mut control| control.confirm());
            output::lines([format!("`{}` is kept", what.context("confirm")?)])?;
        }
        Ok(Exit::Done)
    }
}

impl Rollback {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self {} = self;
        let what = context.unsettled().and_then(|mut control| control.roll_back());
        output::lines([format!("`{}` is taken back", what.context("rollback")?)])?;
        Ok(Exit::Done)
    }
}

/// What waits, for a person.
pub(super) fn text(waiting: &Waiting) -> String {
    format!(
        "`{}` is taken back in {}, unless `secgroup confirm` keeps it",
        waiting.what,
        humantime::format_duration(whole(waiting.left))
    )
}

/// What waits, for a program.
pub(super) fn document(waiting: &Waiting) -> Value {
    json!({ "Command": waiting.what, "LeftSeconds": whole(waiting.left).as_secs() })
}

/// In seconds, the begun one included.
fn whole(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}
