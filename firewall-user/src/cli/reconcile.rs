//! `secgroup reconcile`

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, Exit, failure, output, panic};
use crate::control::{Changed, Fixed, Outcome, Reconciliation, Resizing};
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
        let (Reconciliation { interfaces, strays, fixed, unsettled }, model) =
            reconcile().context("reconcile")?;
        if model.is_panicking {
            eprintln!("secgroup: {}", panic::text(&model.management));
        }
        let removed = |slot| format!("slot {slot}: detached; it was not in the store");
        output::lines(strays.into_iter().map(removed))?;
        let mut exit = Exit::Done;
        for one in interfaces {
            let interface = &one.interface;
            let name = format!("{} {}", interface.id, interface.label());
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
                Outcome::DeviceElsewhere => {
                    output::lines([format!(
                        "{name}: stays attached, to a device in a network namespace without a name"
                    )])?;
                }
                Outcome::Failed(error) => {
                    exit = Exit::Failed;
                    failure::report(&error.context(format!("reconcile {}", interface.label())));
                }
            }
            if let Some(failed) = report_resizing(&name, one.resizing)? {
                exit = failed;
            }
        }
        for one in fixed {
            output::note(&fixed_text(&one));
        }
        if let Some(error) = unsettled {
            failure::report(&error.context("reconcile"));
            exit = Exit::NotStored;
        }
        Ok(exit)
    }
}

/// Says which sizes of an interface's tables have changed; the exit code if they could not.
fn report_resizing(name: &str, resizing: Resizing) -> Result<Option<Exit>> {
    let lines = |changed: Vec<Changed>, what: &str| {
        output::lines(changed.iter().map(|one| format!("{name}: maps.{one}: {what}")))
    };
    match resizing {
        Resizing::Unneeded => {}
        Resizing::Done(changed) => lines(changed, "applied; the flows that fit are kept")?,
        Resizing::Later(changed) => lines(changed, "applied when the device is attached")?,
        Resizing::NoMemory { changed, needed, available } => {
            for one in changed {
                output::note(&format!(
                    "{name}: maps.{one}: not applied: the tables would take {}, and {} are available",
                    output::size(needed),
                    output::size(available)
                ));
            }
            return Ok(Some(Exit::Failed));
        }
    }
    Ok(None)
}

/// What a size of the shared maps would take.
fn fixed_text(fixed: &Fixed) -> String {
    let Fixed { changed, is_too_small } = fixed;
    let more = if *is_too_small { "; what is attached now does not fit into it" } else { "" };
    format!(
        "maps.{changed}: takes effect at the next boot, or with `secgroup detach --all` and attaching again \
         (nothing is filtered in between){more}"
    )
}
