//! `secgroup serve`

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit};
use crate::telemetry::server;

#[derive(Debug, Args)]
#[command(after_help = "\
Enforcement does not depend on this process. It reads the kernel's maps at every scrape, attaches a
stored interface when its device appears, updates policies with group peers when addresses of this
host change, and removes expired flows every minute.

Example:
  secgroup serve --metrics 127.0.0.1:9911")]
pub(super) struct Command {
    /// Address and port for GET /metrics
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9911",
        value_parser = address
    )]
    metrics: SocketAddr,
}

fn address(word: &str) -> Result<SocketAddr, String> {
    let example = "write an IP address and a port, for example 127.0.0.1:9911 or [::1]:9911";
    word.parse().map_err(|_| example.to_owned())
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        // Unreadable maps fail the command now, and not only the first scrape.
        context.control().and_then(|control| control.maps()).context("serve")?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
        let (paths, config) = (context.paths.clone(), context.config);
        let serve = server::serve(paths, config, self.metrics, |address| {
            eprintln!("secgroup: metrics at http://{address}/metrics");
        });
        runtime.block_on(serve).context("serve")?;
        Ok(Exit::Done)
    }
}
