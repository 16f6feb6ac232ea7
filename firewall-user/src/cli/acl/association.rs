//! `secgroup acl associate` and `disassociate`

use anyhow::{Context as _, Result};
use clap::Args;

use crate::cli::interfaces::Named;
use crate::cli::safety::Safety;
use crate::cli::{Context, Exit, output};
use crate::model::{Acl, Error, Interface, Model};

pub(super) const EXAMPLES: &str = "\
An interface has one network ACL: that of its subnet, or the one that is given to it, which takes the place
of that of its subnet.

Examples:
  secgroup acl associate web eth0 eth1
  secgroup acl associate guests tap0 --confirm 1m
  secgroup acl associate default eth0";

/// The interfaces of a command.
#[derive(Debug, Args)]
struct Interfaces {
    /// Attached network devices; of other network namespaces also as NAMESPACE/DEVICE
    #[arg(value_name = "IFACE", required = true)]
    devices: Vec<String>,
    /// Named network namespace of the devices
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Associate {
    /// Network ACL by id or name
    acl: String,
    #[command(flatten)]
    interfaces: Interfaces,
    #[command(flatten)]
    safety: Safety,
}

#[derive(Debug, Args)]
pub(crate) struct Disassociate {
    /// Network ACL by id or name
    acl: String,
    #[command(flatten)]
    interfaces: Interfaces,
    /// Leave interfaces alone that do not have the network ACL
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    safety: Safety,
}

impl Associate {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { acl, interfaces, safety } = self;
        let what = format!("acl associate {acl}");
        let change = || {
            interfaces.change(context, safety, (&what, &acl), |model, acl, interface| {
                Ok(Interface { acl: model.own_acl(acl, interface), ..interface.clone() })
            })
        };
        change().with_context(|| format!("associate network ACL {acl}"))
    }
}

impl Disassociate {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { acl, interfaces, if_exists, safety } = self;
        let what = format!("acl disassociate {acl}");
        let change = || {
            interfaces.change(context, safety, (&what, &acl), |_, acl, interface| {
                if interface.acl.as_ref() == Some(&acl.id) {
                    return Ok(Interface { acl: None, ..interface.clone() });
                }
                if acl.is_default {
                    let (name, id) = (acl.name.clone(), acl.id.clone());
                    return Err(Error::AclDefault { name, id, what: "disassociated" });
                }
                if if_exists {
                    return Ok(interface.clone());
                }
                Err(Error::AclNotAssociated { interface: interface.label(), acl: acl.name.clone() })
            })
        };
        change().with_context(|| format!("disassociate network ACL {acl}"))
    }
}

impl Interfaces {
    /// Stores each interface as `edit` returns it, all or none, and prints which network ACL they have.
    fn change(
        &self,
        context: &Context,
        safety: Safety,
        (what, word): (&str, &str),
        edit: impl Fn(&Model, &Acl, &Interface) -> Result<Interface, Error>,
    ) -> Result<Exit> {
        let name = |device: &String| Named::new(device, self.netns.as_deref());
        let named = self.devices.iter().map(name).collect::<Result<Vec<_>>>()?;
        let mut control = context.control_existing()?;
        let pins = control.pins().clone();
        let lines = control.change(&safety.terms(what), |change| {
            let acl = change.model().acl(word)?.clone();
            let mut lines = Vec::new();
            for one in &named {
                let model = change.model();
                let interface = edit(model, &acl, one.of(&pins, model)?)?;
                change.put_interface(&interface)?;
                let name = change.model().acl_of(&interface).map_or("-", |acl| &acl.name);
                lines.push(format!("{}: network ACL {name}", interface.label()));
            }
            Ok(lines)
        })?;
        output::lines(lines)?;
        safety.remind(&control)?;
        Ok(Exit::Done)
    }
}
