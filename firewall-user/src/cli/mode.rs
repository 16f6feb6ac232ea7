//! `secgroup mode`

use anyhow::{Context as _, Result};
use clap::Args;

use super::safety::Safety;
use super::{Context, Exit, output};
use crate::control::enforcement::required;
use crate::model::{Interface, Mode};

#[derive(Debug, Args)]
#[command(after_help = "\
In audit mode every packet gets its verdict and is counted by it, and none is dropped: `stats` shows
what enforcement would drop.

Examples:
  secgroup mode eth0 audit
  secgroup mode eth0 enforce --confirm 30s")]
pub(super) struct Command {
    /// Network device
    #[arg(value_name = "IFACE")]
    device: String,
    /// Enforce drops, or only count them
    #[arg(value_enum)]
    mode: Mode,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    #[command(flatten)]
    safety: Safety,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let what = format!("mode {}", self.device);
        self.change(context, &what).context(what.clone())
    }

    fn change(self, context: &Context, what: &str) -> Result<Exit> {
        let Self { device, mode, netns, safety } = self;
        let mut control = context.control_existing()?;
        let pins = control.pins().clone();
        let interface = control.change(&safety.terms(what), |change| {
            let found = required(&pins, change.model(), &device, netns.as_deref())?;
            let interface = Interface { mode, ..found.clone() };
            change.put_interface(&interface)?;
            Ok(interface)
        })?;
        safety.remind(&control)?;
        output::lines([format!("{}: {}", interface.label(), interface.mode.name())])?;
        Ok(Exit::Done)
    }
}
