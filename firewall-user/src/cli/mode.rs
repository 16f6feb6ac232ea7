//! `secgroup mode`

use anyhow::{Context as _, Result};
use clap::Args;

use super::interfaces::InterfaceArgs;
use super::safety::Safety;
use super::{Context, Exit, output};
use crate::model::{Interface, Mode};

#[derive(Debug, Args)]
#[command(after_help = "\
In audit mode every packet gets its verdict and is counted by it, and none is dropped: `stats` shows
what enforcement would drop.

Examples:
  secgroup mode eth0 audit
  secgroup mode eth0 enforce --confirm 30s")]
pub(super) struct Command {
    #[command(flatten)]
    interface: InterfaceArgs,
    /// Enforce drops, or only count them
    #[arg(value_enum)]
    mode: Mode,
    #[command(flatten)]
    safety: Safety,
}

impl Command {
    /// Whether it ends the drops on an interface.
    pub(super) const fn is_for_emergency(&self) -> bool {
        matches!(self.mode, Mode::Audit)
    }

    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let what = format!("mode {}", self.interface.text());
        self.change(context, &what).context(what.clone())
    }

    fn change(self, context: &Context, what: &str) -> Result<Exit> {
        let Self { interface, mode, safety } = self;
        let named = interface.parse()?;
        let mut control = match mode {
            Mode::Audit => context.control_existing()?.in_emergency(),
            Mode::Enforce => context.control_existing()?,
        };
        let pins = control.pins().clone();
        let interface = control.change(&safety.terms(what), |change| {
            let interface = Interface { mode, ..named.of(&pins, change.model())?.clone() };
            change.put_interface(&interface)?;
            Ok(interface)
        })?;
        safety.remind(&control)?;
        output::lines([format!("{}: {}", interface.label(), interface.mode.name())])?;
        Ok(Exit::Done)
    }
}
