//! `secgroup panic`

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::Args;
use ipnet::IpNet;

use super::{Context, Exit, failure, output};
use crate::control::panic::Panicked;
use crate::model::Interface;

/// Emergency mode: drop everything except the management networks.
///
/// On every attached interface, all traffic from and to the management networks passes, and so does
/// exempt traffic (ARP, neighbour discovery, DHCP clients); everything else is dropped. Flows with
/// other networks are removed. It lasts until `secgroup panic --off`, also
/// after a reboot. Groups, rules and attachments can be changed meanwhile; changes of rules become
/// active at its end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup management set 192.0.2.0/24 2001:db8:1::/48   # beforehand
  secgroup panic
  secgroup panic --off")]
pub(super) struct Command {
    /// End the emergency mode: the rules of the groups are active again
    #[arg(long)]
    off: bool,
    /// Begin or end it even if this cuts the SSH connection that the command runs in
    #[arg(long)]
    force: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { off, force } = self;
        let act = || -> Result<_> {
            let mut control = context.control_unsettled()?.in_emergency();
            let panicked = control.panic(!off, force)?;
            Ok((panicked, control.model()?.management))
        };
        let (panicked, management) = act().context(if off { "panic --off" } else { "panic" })?;
        let Panicked { interfaces, removed, open } = panicked;
        let is_open = |one: &&Interface| open.iter().any(|(other, _)| other.slot == one.slot);
        let labels: Vec<_> =
            interfaces.iter().filter(|one| !is_open(one)).map(Interface::label).collect();
        let place =
            if labels.is_empty() { "nothing is attached".to_owned() } else { labels.join(", ") };
        let line = if off {
            format!("panic ended: {place}")
        } else {
            format!("{}: {place}; {} removed", text(&management), output::many(removed, "flow"))
        };
        if labels.is_empty() && !open.is_empty() {
            // Every one is reported below.
        } else {
            output::lines([line])?;
        }
        let exit = if open.is_empty() { Exit::Done } else { Exit::Failed };
        for (interface, error) in open {
            let what = format!("panic: {} is open, because it is not enforced", interface.label());
            failure::report(&error.context(what));
        }
        Ok(exit)
    }
}

/// What passes in a panic.
pub(super) fn text(management: &BTreeSet<IpNet>) -> String {
    let networks: Vec<_> = management.iter().map(ToString::to_string).collect();
    match &networks[..] {
        [] => "PANIC: nothing passes".to_owned(),
        networks => format!("PANIC: only traffic of {} passes", networks.join(", ")),
    }
}
