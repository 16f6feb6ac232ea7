//! `secgroup serve`

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use self::console::Console;
use self::ec2::Ec2;
use super::{Context, Exit};
use crate::api;
use crate::console as pages;
use crate::http::Address;
use crate::journal;
use crate::observe::collector::hub::Hub;
use crate::telemetry::metrics::Sources;
use crate::telemetry::{collected, hits, records, serve};

mod console;
mod ec2;
mod flow_logs;

/// The least time between two checks of everything.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Enforcement does not depend on this process. It attaches a stored interface when its device appears
or its programs are lost, updates policies with group peers when addresses of this host change,
removes expired flows every minute, and reads the kernel's maps when it is scraped.

It records dropped packets (`secgroup drops`), unless the configuration has collect = false, counts
what rules are used for (`rule list --hits`), and delivers the flow logs: docs/flow-logs.md.

With --ec2 it answers the calls of the AWS CLI, SDKs and Terraform: docs/ec2-endpoint.md. With
--console it shows in a browser what happens: docs/console.md.

SIGHUP reads the configuration and the certificate again; SIGTERM and SIGINT end it.

Examples:
  secgroup serve --metrics 127.0.0.1:9911
  secgroup serve --metrics unix:/run/secgroup/metrics.sock
  secgroup serve --ec2 127.0.0.1:8773
  secgroup serve --console 127.0.0.1:9912   # from elsewhere: ssh -L 9912:127.0.0.1:9912 HOST")]
pub(super) struct Command {
    /// Address and port for GET /metrics, or a Unix socket, which its owner and group can use
    #[arg(
        long,
        value_name = "ADDRESS:PORT|unix:PATH",
        default_value = "127.0.0.1:9911",
        value_parser = metrics_address
    )]
    metrics: Address,
    /// Leave out the metrics of each rule: with thousands of rules they are most of the series
    #[arg(long)]
    no_rule_metrics: bool,
    /// Time between two checks of what the kernel does not announce, such as a detached link
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = check_interval
    )]
    check_interval: Duration,
    #[command(flatten)]
    console: Console,
    #[command(flatten)]
    ec2: Ec2,
}

fn metrics_address(word: &str) -> Result<Address, String> {
    Address::parse(word, 9911, "/run/secgroup/metrics.sock")
}

fn check_interval(word: &str) -> Result<Duration, String> {
    let range = || "at least 1s, for example 30s or 5m".to_owned();
    let time = humantime::parse_duration(word).map_err(|_| range())?;
    if time < MIN_CHECK_INTERVAL { Err(range()) } else { Ok(time) }
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { metrics, no_rule_metrics, check_interval, console, ec2 } = self;
        // Unreadable maps fail the command now, and not only the first scrape.
        context.control().and_then(|control| control.maps()).context("serve")?;
        let (paths, config) = (context.paths.clone(), context.config);
        let keys = ec2::count_keys(&ec2, &paths.state_dir).context("serve")?;
        let mut servers = vec![hits::server(paths.clone())];
        let hub = Arc::new(Hub::default());
        if config.records.collect {
            servers.push(records::server(paths.clone(), config, Arc::clone(&hub)));
        }
        let mut console = console.address().context("serve")?;
        if let Some(address) = &mut console {
            let (server, opened) = pages::server::open(&paths, address).context("serve")?;
            servers.push(server);
            *address = opened;
        }
        let mut announced = None;
        if let Some(options) = ec2.options(keys).context("serve")? {
            let (server, address) = api::server::open(&paths, config, &options).context("serve")?;
            servers.push(server);
            announced = Some((options, address));
        }
        servers.push(flow_logs::server(paths.clone(), Arc::clone(&hub)));
        let announce = |metrics: &Address| {
            match metrics {
                Address::Tcp(address) => {
                    journal::report(format_args!("metrics at http://{address}/metrics"));
                }
                Address::Unix(_) => journal::report(format_args!("metrics at {metrics}")),
            }
            if let Some(address) = &console {
                console::announce(address);
            }
            if let Some((options, address)) = announced {
                ec2::announce(&options, &address, keys);
            }
        };
        let mut sources = Sources::new(!no_rule_metrics);
        if config.records.collect {
            sources = sources.with_records(collected::records(hub, &paths.state_dir));
        }
        serve::serve(paths, config, &metrics, check_interval, sources, servers, announce)
            .context("serve")?;
        Ok(Exit::Done)
    }
}
