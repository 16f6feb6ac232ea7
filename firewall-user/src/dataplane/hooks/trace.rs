//! Printing the lines of an interface's traced programs.

use std::io::Write;
use std::time::Duration;

use aya_log::EbpfLogger;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use log::{Log, Metadata, Record};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::hooks::slow_path::traced_program;
use crate::dataplane::pins::Pins;

/// How often the ring buffer is read.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Prints the lines of an interface's traced programs until SIGINT or SIGTERM.
///
/// # Errors
/// The interface has no traced programs, or they cannot be read.
pub fn until_interrupted(pins: &Pins, slot: u16) -> Result<()> {
    let program = traced_program(pins, slot)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    runtime.block_on(async {
        let mut logger = EbpfLogger::init_from_id_with_logger(program, Lines).map_err(|error| {
            DataplaneError::new(format!("open the trace of the interface's programs: {error}"), "")
        })?;
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .context("wait for SIGTERM")?;
        loop {
            tokio::select! {
                _ = tick.tick() => logger.flush(),
                _ = tokio::signal::ctrl_c() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
            }
        }
    })
}

/// Prints lines with names in place of the kernel program's numbers.
struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A closed pipe does not end the command: only a signal does.
        let _ = writeln!(std::io::stdout().lock(), "{}", with_names(&record.args().to_string()));
    }

    fn flush(&self) {}
}

/// `0 16 proto 6 …` as `drop ingress no-rule proto 6 …`.
fn with_names(line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let direction = words.next().and_then(|word| match word {
        "0" => Some(Direction::Ingress),
        "1" => Some(Direction::Egress),
        _ => None,
    });
    let reason = words.next().and_then(|word| Reason::from_number(word.parse().ok()?));
    match (direction, reason, words.next()) {
        (Some(direction), Some(reason), Some(rest)) => {
            format!("{} {} {} {rest}", reason.verdict().name(), direction.name(), reason.name())
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names() {
        assert_eq!(with_names("0 16 proto 6 a > b"), "drop ingress no-rule proto 6 a > b");
        assert_eq!(with_names("1 0 length 60"), "pass egress established length 60");
        assert_eq!(with_names("something else"), "something else");
    }
}
