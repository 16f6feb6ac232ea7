//! Naming interfaces: one form for every command, that of the lists.

use anyhow::Result;
use clap::Args;

pub(super) use crate::control::named::Named;
use crate::dataplane::Pins;
use crate::model::{Interface, Model};

/// The interface of a command.
#[derive(Clone, Debug, Args)]
pub(super) struct InterfaceArgs {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE
    #[arg(value_name = "IFACE")]
    device: String,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
}

impl InterfaceArgs {
    /// The text of the interface, as it was given.
    pub(super) fn text(&self) -> &str {
        &self.device
    }

    pub(super) fn parse(&self) -> Result<Named> {
        Named::new(&self.device, self.netns.as_deref())
    }
}

/// The interfaces to read.
#[derive(Clone, Debug, Args)]
pub(super) struct Selection {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE [default: all attached ones]
    #[arg(value_name = "IFACE")]
    pub(super) device: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME", requires = "device")]
    netns: Option<String>,
}

impl Selection {
    /// The chosen interfaces of the store.
    pub(super) fn of<'a>(&self, pins: &Pins, model: &'a Model) -> Result<Vec<&'a Interface>> {
        match &self.device {
            None => Ok(model.interfaces.values().collect()),
            Some(device) => Ok(vec![Named::new(device, self.netns.as_deref())?.of(pins, model)?]),
        }
    }
}
