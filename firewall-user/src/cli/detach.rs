//! `secgroup detach`

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, output};
use crate::model::{Error, label};

#[derive(Debug, Args)]
#[command(after_help = "\
Traffic of a detached interface is no longer filtered. Its flows and counters are deleted.

Examples:
  secgroup detach eth0
  secgroup detach --all")]
pub(super) struct Command {
    /// Network device
    #[arg(value_name = "IFACE", required_unless_present = "all", conflicts_with = "all")]
    device: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    netns: Option<String>,
    /// Every interface: removes all programs, maps and links of secgroup from the kernel
    #[arg(long)]
    all: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let what = match &self.device {
            Some(device) => format!("detach {device}"),
            None => "detach --all".to_owned(),
        };
        self.detach(context).context(what)
    }

    fn detach(self, context: &Context) -> Result<Exit> {
        let Self { device, netns, all } = self;
        let mut control = context.control_unsettled()?.in_emergency();
        let mut lines = Vec::new();
        let strays = control.detach(all, |model| {
            let interfaces = match &device {
                Some(device) => {
                    let netns = netns.as_deref();
                    let missing = || Error::InterfaceNotFound(label(device, netns));
                    vec![model.interface(device, netns).ok_or_else(missing)?.clone()]
                }
                None => model.interfaces.values().cloned().collect(),
            };
            let mut slots = Vec::new();
            for interface in interfaces {
                slots.push(interface.slot);
                lines.push(format!("{} {}: detached", interface.id, interface.device));
            }
            Ok(slots)
        })?;
        lines.extend(
            strays.iter().map(|slot| format!("slot {slot}: detached; it was not in the store")),
        );
        output::lines(lines)?;
        Ok(Exit::Done)
    }
}
