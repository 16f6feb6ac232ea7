//! `secgroup gc`

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, output};
use crate::dataplane::flows::expire::Expired;

#[derive(Debug, Args)]
#[command(after_help = "\
An expired flow passes nothing, but keeps its place in its table until a packet of the same
connection comes, or this. Changing commands remove some on their way, and `secgroup serve` all of
them every minute. Exits with 3 if nothing is attached.")]
pub(super) struct Command {}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self {} = self;
        let gc = || context.control()?.gc();
        let Expired { new, proven } = gc().context("gc")?;
        let removed = new + proven;
        output::lines([format!("{removed} expired flows removed: {new} new, {proven} proven")])?;
        Ok(Exit::Done)
    }
}
