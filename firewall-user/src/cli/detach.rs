//! `secgroup detach`

use anyhow::{Context as _, Result};
use clap::Args;

use super::interfaces::Named;
use super::{Context, Exit, failure, output};
use crate::control::Control;
use crate::model::{Block, Interface, Model};
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
        let (lines, notes) = match stored {
            // What is attached is not kept for a store that nobody can read.
            Err(error) if self.all && is_unreadable(&error) => {
                failure::warn(&error);
                self.choose(context.control_without_store()?)?
            }
            done => done?,
        };
        output::lines(lines)?;
        notes.iter().for_each(|note| output::note(note));
        Ok(Exit::Done)
    }

    /// Detaches, and returns what is printed: to standard output, and as notes.
    fn choose(&self, control: Control) -> Result<(Vec<String>, Vec<String>)> {
        let Self { device, netns, all, if_exists } = self;
        let named = device.as_ref().map(|device| Named::new(device, netns.as_deref()));
        let named = named.transpose()?;
        let mut control = control.in_emergency();
        let (mut lines, mut notes, pins) = (Vec::new(), Vec::new(), control.pins().clone());
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
                notes.extend(what_goes(model, &interface));
                lines.push(format!("{} {}: detached", interface.id, interface.label()));
            }
            Ok(slots)
        })?;
        lines.extend(
            strays.iter().map(|slot| format!("slot {slot}: detached; it was not in the store")),
        );
        Ok((lines, notes))
    }
}

/// What goes with an interface, and does not come back if it is attached again.
fn what_goes(model: &Model, interface: &Interface) -> Option<String> {
    let label = interface.label();
    let own = |one: &&Block| one.interface.as_ref() == Some(&interface.id);
    let blocks = match model.blocks.values().filter(own).count() {
        0 => None,
        1 => Some("1 block on it is removed".to_owned()),
        count => Some(format!("{count} blocks on it are removed")),
    };
    let acl = interface.acl.as_ref().and_then(|id| model.acls.get(id));
    let acl = acl.map(|acl| format!("it does not have network ACL {} any more", acl.name));
    let parts: Vec<_> = blocks.into_iter().chain(acl).collect();
    (!parts.is_empty()).then(|| format!("{label}: {}", parts.join(", and ")))
}

/// Whether the store's contents are lost, before anything was changed.
fn is_unreadable(error: &anyhow::Error) -> bool {
    let store = error.downcast_ref::<store::Error>();
    matches!(store, Some(store::Error::Damaged { .. } | store::Error::OtherProgram { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VpcId;
    use crate::model::{Acl, AclId, InterfaceId, Peer};

    #[test]
    fn what_goes_with_an_interface_is_said() {
        let mut model = Model::default();
        let interface = |slot, device| {
            Interface::new(InterfaceId::random().unwrap(), slot, device, Some("blue"))
        };
        let [mut eth0, eth1] = [interface(0, "eth0"), interface(1, "eth1")];
        assert_eq!(what_goes(&model, &eth0), None);
        let acl = Acl::deny_all(AclId::random().unwrap(), VpcId::default_vpc(), "web", [].into());
        eth0.acl = Some(acl.id.clone());
        model.acls.insert(acl.id.clone(), acl);
        let has = "it does not have network ACL web any more";
        assert_eq!(what_goes(&model, &eth0), Some(format!("blue/eth0: {has}")));
        for (number, interface) in [(1, None), (2, Some(&eth0)), (3, Some(&eth1)), (4, Some(&eth0))]
        {
            let block = Block {
                number,
                target: Peer::Ipv4("192.0.2.7/32".parse().unwrap()),
                interface: interface.map(|one| one.id.clone()),
                reason: String::new(),
                end: None,
                created: 0,
            };
            model.blocks.insert(number, block);
        }
        let both = format!("blue/eth0: 2 blocks on it are removed, and {has}");
        assert_eq!(what_goes(&model, &eth0), Some(both));
        assert_eq!(what_goes(&model, &eth1).unwrap(), "blue/eth1: 1 block on it is removed");
    }
}
