//! What the reading commands share: which interfaces, and what to call things.

use anyhow::Result;
use clap::Args;

use crate::model::{Error, Interface, Model, label};

/// Which interfaces a reading command is about.
#[derive(Clone, Debug, Args)]
pub(super) struct Selection {
    /// Network device [default: all that are attached]
    #[arg(value_name = "IFACE")]
    pub(super) device: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME", requires = "device")]
    pub(super) netns: Option<String>,
}

impl Selection {
    /// The stored interfaces that are meant.
    pub(super) fn of<'a>(&self, model: &'a Model) -> Result<Vec<&'a Interface>> {
        match &self.device {
            None => Ok(model.interfaces.values().collect()),
            Some(device) => {
                let netns = self.netns.as_deref();
                let missing = || Error::InterfaceNotFound(label(device, netns));
                Ok(vec![model.interface(device, netns).ok_or_else(missing)?])
            }
        }
    }
}
