//! `secgroup mode`

use anyhow::{Context as _, Result};
use clap::Args;

use super::safety::Safety;
use super::{Context, Exit, output};
use crate::model::{Error, Mode, label};

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
    /// Whether it ends the drops on an interface.
    pub(super) const fn is_for_emergency(&self) -> bool {
        matches!(self.mode, Mode::Audit)
    }

    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let what = format!("mode {}", self.device);
        self.change(context, &what).context(what.clone())
    }

    fn change(self, context: &Context, what: &str) -> Result<Exit> {
        let Self { device, mode, netns, safety } = self;
        let mut control = match mode {
            Mode::Audit => context.control_existing()?.in_emergency(),
            Mode::Enforce => context.control_existing()?,
        };
        control.change(&safety.terms(what), |change| {
            let found = change.model().interface(&device, netns.as_deref());
            let missing = || Error::InterfaceNotFound(label(&device, netns.as_deref()));
            let mut interface = found.ok_or_else(missing)?.clone();
            interface.mode = mode;
            Ok(change.put_interface(&interface)?)
        })?;
        safety.remind(&control)?;
        let model = control.model()?;
        let interface = model.interface(&device, netns.as_deref());
        output::lines(interface.map(|one| format!("{}: {}", one.label(), one.mode.name())))?;
        Ok(Exit::Done)
    }
}
