//! Options of the commands that can cut the SSH session of their user.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{Context, failure, members};
use crate::control::{Control, Terms};
use crate::store::Transaction;

/// The longest time for a confirmation.
const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct Safety {
    /// Roll the change back after this time, unless `secgroup confirm` follows: 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    confirm: Option<Duration>,
    /// Make the change even if it blocks new SSH connections from your address
    #[arg(long)]
    force: bool,
}

fn duration(word: &str) -> Result<Duration, String> {
    let range = || "1s to 24h, for example 30s or 5m".to_owned();
    let time: Duration = humantime::parse_duration(word).map_err(|_| range())?;
    if (Duration::from_secs(1)..=MAX_TIME).contains(&time) { Ok(time) } else { Err(range()) }
}

impl Safety {
    /// Makes a change with these options; `what` is the command.
    pub(super) fn change<T>(
        self,
        context: &Context,
        what: &str,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut control = context.control()?;
        let mut warnings = Vec::new();
        let value = control.change(&self.terms(what), |change| {
            let value = edit(change)?;
            warnings = members::warnings(change);
            Ok(value)
        })?;
        members::warn(&warnings);
        self.remind(&control)?;
        Ok(value)
    }

    /// Whether what looks dangerous is to be done all the same.
    pub(super) const fn force(self) -> bool {
        self.force
    }

    /// The options of a change.
    pub(super) fn terms(self, what: &str) -> Terms {
        Terms {
            what: failure::one_line(what),
            confirm: self.confirm,
            force: self.force,
            ..Terms::default()
        }
    }

    /// Prints what is left to do after a change.
    pub(super) fn remind(self, control: &Control) -> Result<()> {
        // A change without edits needs no confirmation.
        if let (Some(time), Some(_)) = (self.confirm, control.unconfirmed_change()?) {
            eprintln!(
                "secgroup: this change is rolled back in {} unless `secgroup confirm` keeps it",
                humantime::format_duration(time)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_bounded() {
        for (word, seconds) in [("30s", 30), ("5m", 300), ("1h 30m", 5400), ("24h", 86_400)] {
            assert_eq!(duration(word), Ok(Duration::from_secs(seconds)), "{word}");
        }
        for word in ["", "30", "0s", "999ms", "-1s", "25h", "soon", "99999999999999999999y"] {
            assert!(duration(word).is_err(), "{word}");
        }
    }
}
