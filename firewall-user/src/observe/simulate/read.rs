//! Where connections were seen: the flow tables, and the journal.

use std::path::Path;

use anyhow::Result;

use super::document::JournalCoverage;
use super::{Observation, Seen, Simulation, Source, answer};
use crate::control::{Control, NothingAttached};
use crate::model::Model;
use crate::observe::flows::{Admitted, live_flows};
use crate::observe::journal::{self, Entry, Reader};
use crate::observe::query::{Checked, Subject};
use crate::observe::record::Verdict;

impl Simulation<'_> {
    /// Adds the live flows that match; returns their number. Where nothing is attached there is none.
    ///
    /// # Errors
    /// The tables or the store cannot be read.
    pub fn add_live(&mut self, control: &Control, model: &Model, query: &Checked) -> Result<u64> {
        let flows = match live_flows(control, model, |flow| query.matches(&flow.subject())) {
            Err(error) if error.is::<NothingAttached>() => Vec::new(),
            flows => flows?,
        };
        for flow in &flows {
            // Exempt from the rules and the network ACL.
            if flow.admitted == Admitted::Exempt {
                self.not_simulated = self.not_simulated.saturating_add(flow.packets());
                continue;
            }
            self.add(&Observation {
                subject: flow.subject(),
                source: Source::Live,
                seen: Seen::Passed,
                is_answered: flow.is_answered(),
                records: 1,
                packets: flow.packets(),
                bytes: flow.bytes(),
                first: None,
                last: None,
            });
        }
        Ok(flows.len() as u64)
    }

    /// Adds the records of the journal that match and whose last packet came at `since` or later, in milliseconds
    /// since 1970.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn add_journal(
        &mut self,
        state_dir: &Path,
        since: i64,
        query: &Checked,
    ) -> Result<JournalCoverage> {
        let reader = Reader::open(&journal::directory(state_dir))?;
        let mut count = 0;
        for entry in reader.since(since)? {
            let Entry::Record(record) = entry? else { continue };
            let seen = match record.verdict {
                Verdict::Pass => Seen::Passed,
                Verdict::Drop | Verdict::WouldDrop => Seen::Dropped,
            };
            let subject = Subject::from(&*record);
            let subject = match seen {
                Seen::Dropped => answer::opened(subject, record.tcp_flags.and_then(answer::opens)),
                _ => subject,
            };
            if !query.matches(&subject) {
                continue;
            }
            count += 1;
            self.add(&Observation {
                subject,
                source: Source::Journal,
                seen,
                is_answered: true,
                records: 1,
                packets: record.packets,
                bytes: record.bytes,
                first: Some(record.first),
                last: Some(record.last),
            });
        }
        Ok(JournalCoverage::new(&reader.coverage()?, since, count))
    }
}
