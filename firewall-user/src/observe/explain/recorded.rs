//! Explaining the packet of a record: what it would meet now.

use std::borrow::Cow;

use anyhow::Result;

use super::{Explainer, Explanation, Question};
use crate::control::Control;
use crate::explain::{Exit, Explain};
use crate::model::{Error, Interface, Model, label};
use crate::observe::capture;
use crate::observe::journal::Reader;
use crate::observe::record::PacketRecord;

/// The journal has no record of this number.
#[derive(Debug, thiserror::Error)]
#[error("the journal has no record {0}")]
pub struct NoRecord(u64);

impl Explain for NoRecord {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("`secgroup drops` lists the records that are kept, with their numbers".into())
    }

    fn exit(&self) -> Exit {
        Exit::NotFound
    }
}

/// Explains the first packet of a record, as things are now. `log`: also what the kernel program prints.
///
/// # Errors
/// There is no such record, its interface is not attached any more, or as [`Explainer::explain`].
pub fn of_record(
    control: &Control,
    model: &Model,
    journal: &Reader,
    id: u64,
    log: bool,
) -> Result<Explanation> {
    let record = journal.get(id)?.ok_or(NoRecord(id))?;
    let is_its = |one: &&Interface| one.id.as_str() == record.network_interface_id;
    let missing = || Error::InterfaceNotFound(label(&record.device, record.netns.as_deref()));
    let interface = model.interfaces.values().find(is_its).ok_or_else(missing)?;
    let question = Question::Frame(capture::of_record(&record)?);
    let mut explainer = Explainer::open(control, interface)?;
    let mut found = explainer.explain(control, &question, record.direction, log)?;
    found.notes.extend(since(&record, &found));
    Ok(found)
}

/// What has changed since a record was made.
fn since(record: &PacketRecord, found: &Explanation) -> Option<String> {
    let then = record.reason.name();
    let is_same = then == found.reason && record.verdict.name() == found.verdict;
    let policy =
        if record.generation == found.generation { "the same policy" } else { "another policy" };
    (!is_same).then(|| {
        format!(
            "Then it was {} ({then}), now it would be {} ({}), by {policy}.",
            record.verdict.name(),
            found.verdict,
            found.reason
        )
    })
}

/// The number of a record, also as `secgroup drops` prints it: `#4711`.
#[must_use]
pub fn number_of_record(word: &str) -> Option<u64> {
    word.strip_prefix('#').unwrap_or(word).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_is_printed() {
        for (word, number) in
            [("4711", Some(4711)), ("#4711", Some(4711)), ("##1", None), ("#", None), ("x", None)]
        {
            assert_eq!(number_of_record(word), number, "{word}");
        }
    }
}
