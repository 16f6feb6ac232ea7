//! `secgroup metrics`

use std::io::Write;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, output};
use crate::control::OtherStore;
use crate::telemetry::metrics::{self, Scrape, Sources};

#[derive(Debug, Args)]
#[command(after_help = "\
What cannot be read is left out, and not 0: without the rights to read the kernel's tables, also
whether interfaces are enforced. Then secgroup_store_readable or secgroup_tables_readable is 0, an
error is printed, and the exit code is 1.

Example, for node_exporter's textfile collector:
  secgroup metrics > /var/lib/node_exporter/secgroup.prom.$$
  mv /var/lib/node_exporter/secgroup.prom.$$ /var/lib/node_exporter/secgroup.prom")]
pub(super) struct Command {
    /// Leave out the metrics of each rule: with thousands of rules they are most of the series
    #[arg(long)]
    no_rule_metrics: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let sources = Sources::new(!self.no_rule_metrics);
        let Scrape { text, error } =
            metrics::scrape(|| context.control_reading(), &sources).context("metrics")?;
        // Of a store that is not this one's, nothing is told.
        let error = match error {
            Some(error) if error.is::<OtherStore>() => return Err(error.context("metrics")),
            error => error,
        };
        let mut out = output::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        error.map_or(Ok(Exit::Done), |error| Err(error.context("metrics")))
    }
}
