//! `secgroup reconcile`

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, failure, output, panic};
use crate::control::{Outcome, Reconciliation};
use crate::dataplane::hooks::hook;

#[derive(Debug, Args)]
#[command(after_help = "\
Attaches the stored interfaces, replaces running programs by those of this build without a gap in
enforcement, writes every policy, and detaches interfaces that are not in the store. Run it at boot
and after an upgrade.")]
pub(super) struct Command {
    /// Also if what is attached is of another store, which was lost: it is this store's from now on
    #[arg(long)]
    adopt: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { adopt } = self;
        let reconcile = || {
            let mut control =
                if adopt { context.control()? } else { context.control_unsettled()? };
            Ok::<_, anyhow::Error>((control.reconcile(adopt)?, control.model()?))
        };
        let (Reconciliation { interfaces, strays }, model) = reconcile().context("reconcile")?;
        if model.is_panicking {
            eprintln!("secgroup: {}", panic::text(&model.management));
        }
        let removed = |slot| format!("slot {slot}: detached; it was not in the store");
        output::lines(strays.into_iter().map(removed))?;
        let mut exit = Exit::Done;
        for one in interfaces {
            let interface = &one.interface;
            let name = format!("{} {}", interface.id, interface.device);
            match one.outcome {
                Outcome::Attached(attached) => output::lines([format!(
                    "{name}: {} ({})",
                    attached.hook.name(),
                    hook::why(interface.hook, attached.hook, &attached.device)
                )])?,
                Outcome::DeviceMissing => {
                    output::lines([format!(
                        "{name}: not enforced: the device does not exist now"
                    )])?;
                }
                Outcome::Failed(error) => {
                    exit = Exit::Failed;
                    failure::report(&error.context(format!("reconcile {}", interface.device)));
                }
            }
        }
        Ok(exit)
    }
}
