//! `secgroup gc`

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, output};
use crate::dataplane::flows::expire::Expired;

#[derive(Debug, Args)]
#[command(after_help = "\
An expired flow passes no packet, but keeps its entry in the flow table until the next packet of the
same connection or until this command. Commands that change something remove some expired flows,
`secgroup serve` removes all of them every minute.

Exit code 3: nothing is attached.")]
pub(super) struct Command {}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self {} = self;
        let gc = || context.control_unsettled()?.gc();
        let Expired { new, proven } = gc().context("gc")?;
        let removed = new + proven;
        output::lines([format!("{removed} expired flows removed: {new} new, {proven} proven")])?;
        Ok(Exit::Done)
    }
}
