//! `secgroup metrics`

use std::io::Write;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, output};
use crate::telemetry::metrics;

#[derive(Debug, Args)]
#[command(after_help = "\
Example, for node_exporter's textfile collector:
  secgroup metrics > /var/lib/node_exporter/secgroup.prom.$$ &&
    mv /var/lib/node_exporter/secgroup.prom.$$ /var/lib/node_exporter/secgroup.prom")]
pub(super) struct Command {}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self {} = self;
        let text = || metrics::text(&context.control_reading()?);
        let text = text().context("metrics")?;
        let mut out = output::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(Exit::Done)
    }
}
