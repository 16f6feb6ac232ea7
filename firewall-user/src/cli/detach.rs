//! `secgroup detach`

use anyhow::{Context as _, Result};
use clap::Args;

use super::interfaces::Named;
use super::{Context, Exit, failure, output};
use crate::control::Control;
use crate::model::Interface;
use crate::store;

#[derive(Debug, Args)]
#[command(after_help = "\
Traffic of a detached interface is no longer filtered. Its flows and counters are deleted.

Examples:
  secgroup detach eth0
  secgroup detach blue/eth0
  secgroup detach --all")]
pub(super) struct Command {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE
    #[arg(value_name = "IFACE", required_unless_present = "all", conflicts_with = "all")]
    device: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    netns: Option<String>,
    /// Every interface: removes all programs, maps and links of secgroup from the kernel
    #[arg(long)]
    all: bool,
    /// Succeed if the interface is not attached
    #[arg(long, conflicts_with = "all")]
    if_exists: bool,
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
        let stored = context.control_unsettled().and_then(|control| self.choose(control));
        let lines = match stored {
            // What is attached is not kept for a store that nobody can read.
            Err(error) if self.all && is_unreadable(&error) => {
                failure::warn(&error);
                self.choose(context.control_without_store()?)?
            }
            lines => lines?,
        };
        output::lines(lines)?;
        Ok(Exit::Done)
    }

    /// Detaches, and returns what is printed.
    fn choose(&self, control: Control) -> Result<Vec<String>> {
        let Self { device, netns, all, if_exists } = self;
        let named = device.as_ref().map(|device| Named::new(device, netns.as_deref()));
        let named = named.transpose()?;
        let mut control = control.in_emergency();
        let (mut lines, pins) = (Vec::new(), control.pins().clone());
        let strays = control.detach(*all, |model| {
            let interfaces: Vec<Interface> = match &named {
                Some(named) => match named.find(&pins, model)? {
                    None if !if_exists => return Err(named.missing().into()),
                    found => found.cloned().into_iter().collect(),
                },
                None => model.interfaces.values().cloned().collect(),
            };
            let mut slots = Vec::new();
            for interface in interfaces {
                slots.push(interface.slot);
                lines.push(format!("{} {}: detached", interface.id, interface.label()));
            }
            Ok(slots)
        })?;
        lines.extend(
            strays.iter().map(|slot| format!("slot {slot}: detached; it was not in the store")),
        );
        Ok(lines)
    }
}

/// Whether the store's contents are lost, before anything was changed.
fn is_unreadable(error: &anyhow::Error) -> bool {
    let store = error.downcast_ref::<store::Error>();
    matches!(store, Some(store::Error::Damaged { .. } | store::Error::OtherProgram { .. }))
}
