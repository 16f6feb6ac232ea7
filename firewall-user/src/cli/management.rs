//! `secgroup management`

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use ipnet::IpNet;

use super::failure::Misuse;
use super::{Context, Exit, output};
use crate::model::parse_cidr;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set the networks, in place of those set before
    #[command(after_help = "\
Example:
  secgroup management set 192.0.2.0/24 2001:db8:1::/48")]
    Set {
        /// A network
        #[arg(required = true, value_name = "CIDR")]
        networks: Vec<String>,
        /// Also if, in a panic, it keeps the SSH connection out that this command came by
        #[arg(long)]
        force: bool,
    },
    /// Forget the networks
    Clear {
        /// Also in a panic, in which then nothing passes
        #[arg(long)]
        force: bool,
    },
    /// List the networks
    List,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Set { networks, force } => {
                let set = || context.control()?.manage(parse(&networks)?, force);
                set().context("set management networks")?;
            }
            Self::Clear { force } => {
                let clear = || context.control()?.manage(BTreeSet::new(), force);
                clear().context("clear management networks")?;
            }
            Self::List => output::lines(context.control()?.model()?.management)?,
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
                return Err(Misuse {
                    message: format!("{network} is everywhere"),
                    hint: "name the networks that you come from",
                }
                .into());
            }
            Ok(network)
        })
        .collect()
}
