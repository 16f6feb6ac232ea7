//! `secgroup panic`

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::Args;
use ipnet::IpNet;

use super::{Context, Exit, output};
use crate::control::panic::Panicked;
use crate::model::Interface;

/// Drop everything but the management networks, until it is over.
///
/// On every attached interface all traffic from and to the management networks passes; everything
/// else is dropped at once, and what was open ends. It goes on after a reboot. Groups and attachments
/// may be changed meanwhile; the rules count again when the panic is over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup management set 192.0.2.0/24 2001:db8:1::/48   # beforehand
  secgroup panic
  secgroup panic --off")]
pub(super) struct Command {
    /// It is over: the rules of the groups count again
    #[arg(long)]
    off: bool,
    /// Also if it keeps the SSH connection out that this command came by
    #[arg(long)]
    force: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { off, force } = self;
        let act = || -> Result<_> {
            let mut control = context.control()?;
            let panicked = control.panic(!off, force)?;
            Ok((panicked, control.model()?.management))
        };
        let (panicked, management) = act().context(if off { "panic --off" } else { "panic" })?;
        let Panicked { interfaces, ended } = panicked;
        let labels: Vec<_> = interfaces.iter().map(Interface::label).collect();
        let place =
            if labels.is_empty() { "nothing is attached".to_owned() } else { labels.join(", ") };
        let line = if off {
            format!("panic is over: {place}")
        } else {
            format!("{}: {place}; {ended} flows ended", text(&management))
        };
        output::lines([line])?;
        Ok(Exit::Done)
    }
}

/// What a panic means.
pub(super) fn text(management: &BTreeSet<IpNet>) -> String {
    let networks: Vec<_> = management.iter().map(ToString::to_string).collect();
    match &networks[..] {
        [] => "PANIC: nothing passes".to_owned(),
        networks => format!("PANIC: only {} passes", networks.join(", ")),
    }
}
