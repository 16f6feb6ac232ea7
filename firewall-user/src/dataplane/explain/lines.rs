//! The lines that `sg_explain` prints, with names in place of the kernel program's numbers.

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya_log::EbpfLogger;
use firewall_ebpf::abi::helper::pack_explained;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use log::{Log, Metadata, Record};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::object;

const PROGRAM: &str = "sg_explain";

/// Reads what the program prints.
pub(super) struct Lines {
    logger: EbpfLogger<Sink>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Lines {
    /// Loads the program of an object.
    pub(super) fn open(object: &mut Ebpf) -> Result<Self> {
        let program: &mut SchedClassifier = object::program(object, PROGRAM)?;
        program.load().context(format_args!("load {PROGRAM}"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let logger = EbpfLogger::init_with_logger(object, Sink(Arc::clone(&lines)));
        let logger = logger.map_err(|error| {
            DataplaneError::new(format!("read the lines of {PROGRAM}: {error}"), "")
        })?;
        Ok(Self { logger, lines })
    }

    /// The lines about a frame that was decided so.
    pub(super) fn of(
        &mut self,
        object: &mut Ebpf,
        frame: &[u8],
        (direction, reason): (Direction, Reason),
    ) -> Result<Vec<String>> {
        // `struct __sk_buff` up to the mark, which is its third word.
        let mut context = [0; 12];
        context[8..].copy_from_slice(&pack_explained(direction, reason as u8).to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let program: &mut SchedClassifier = object::program(object, PROGRAM)?;
        program.test_run(options).context(format_args!("run {PROGRAM}"))?;
        self.logger.flush();
        Ok(std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Keeps the lines.
struct Sink(Arc<Mutex<Vec<String>>>);

impl Log for Sink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = with_names(&record.args().to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
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
