//! The choice of interfaces that the reading commands share.

use anyhow::Result;
use clap::Args;

use crate::control::enforcement::required;
use crate::dataplane::Pins;
use crate::model::{Interface, Model};

/// The interfaces to read.
#[derive(Clone, Debug, Args)]
pub(super) struct Selection {
    /// Network device [default: all attached ones]
    #[arg(value_name = "IFACE")]
    pub(super) device: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME", requires = "device")]
    pub(super) netns: Option<String>,
}

impl Selection {
    /// The chosen interfaces of the store.
    pub(super) fn of<'a>(&self, pins: &Pins, model: &'a Model) -> Result<Vec<&'a Interface>> {
        match &self.device {
            None => Ok(model.interfaces.values().collect()),
            Some(device) => Ok(vec![required(pins, model, device, self.netns.as_deref())?]),
        }
    }
}
