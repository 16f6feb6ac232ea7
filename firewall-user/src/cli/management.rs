//! `secgroup management`

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use ipnet::IpNet;

use super::failure::UsageError;
use super::{Context, Exit, output};
use crate::model::parse_cidr;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set the management networks, in place of those set before
    #[command(after_help = "\
Example:
  secgroup management set 192.0.2.0/24 2001:db8:1::/48")]
    Set {
        /// Network; may be repeated
        #[arg(required = true, value_name = "CIDR")]
        networks: Vec<String>,
        /// In a panic, set them even if they exclude the address of your SSH connection
        #[arg(long)]
        force: bool,
    },
    /// Remove all management networks
    Clear {
        /// Clear them even in a panic, which then drops everything
        #[arg(long)]
        force: bool,
    },
    /// List the management networks
    List,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Set { networks, force } => {
                let set = || context.control()?.manage(parse(&networks)?, force);
                set().context("set management networks")?;
                output::note_networks(&networks);
            }
            Self::Clear { force } => {
                let clear = || context.control()?.manage(BTreeSet::new(), force);
                clear().context("clear management networks")?;
            }
            Self::List => output::lines(context.control_reading()?.model()?.management)?,
        }
        Ok(Exit::Done)
    }
}

fn parse(words: &[String]) -> Result<BTreeSet<IpNet>> {
    words
        .iter()
        .map(|word| {
            let network = parse_cidr(word)?;
            if network.prefix_len() == 0 {
                return Err(UsageError {
                    message: format!("{network} contains every address"),
                    hint: "give the networks that administrators connect from",
                }
                .into());
            }
            Ok(network)
        })
        .collect()
}
