//! Where connections were seen: the flow tables, the journal, and files of flow logs.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::wire::protocol;

use super::document::{FilesCoverage, JournalCoverage};
use super::{Observation, Seen, Simulation, Source};
use crate::control::{Control, NothingAttached};
use crate::model::{Model, rfc3339};
use crate::observe::flow_logs::files::read::{ReadError, Records, find};
use crate::observe::flow_logs::record::{Action, LogStatus, Record};
use crate::observe::flows::live_flows;
use crate::observe::journal::{self, Entry, Reader};
use crate::observe::query::{Checked, Subject};
use crate::observe::record::Verdict;

impl Simulation {
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
            self.add(&Observation {
                subject: flow.subject(),
                source: Source::Live,
                seen: Seen::Passed,
                is_reply: false,
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
            let subject = Subject::from(&*record);
            if !query.matches(&subject) {
                continue;
            }
            count += 1;
            self.add(&Observation {
                subject,
                source: Source::Journal,
                seen: match record.verdict {
                    Verdict::Pass => Seen::Passed,
                    Verdict::Drop | Verdict::WouldDrop => Seen::Dropped,
                },
                is_reply: false,
                packets: record.packets,
                bytes: record.bytes,
                first: Some(record.first),
                last: Some(record.last),
            });
        }
        Ok(JournalCoverage::new(&reader.coverage()?, since, count))
    }

    /// Adds the records of flow logs at a path, a file or a directory of files, that match and end at `since` or later.
    ///
    /// # Errors
    /// A file cannot be read. Lines that are no records are counted.
    pub fn add_flow_logs(
        &mut self,
        path: &Path,
        since: i64,
        query: &Checked,
        directions: &Directions,
        coverage: &mut FilesCoverage,
    ) -> Result<()> {
        let files = find(path).with_context(|| format!("read {}", path.display()))?;
        for file in files {
            coverage.files += 1;
            let records = Records::open(&file)?;
            coverage.lacking.add(query.query(), &file, records.columns());
            for record in records {
                match record {
                    Ok(record) => self.add_log_record(&record, since, query, directions, coverage),
                    Err(ReadError::Line { .. }) => coverage.damaged += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn add_log_record(
        &mut self,
        record: &Record,
        since: i64,
        query: &Checked,
        directions: &Directions,
        coverage: &mut FilesCoverage,
    ) {
        let milliseconds = |seconds: Option<i64>| seconds.map(|one| one.saturating_mul(1000));
        let (first, last) = (milliseconds(record.start), milliseconds(record.end));
        if last.is_some_and(|last| last < since) {
            return;
        }
        if record.status == Some(LogStatus::SkipData) {
            coverage.skipped += 1;
        }
        let Some(action) = record.action else {
            coverage.without_packets += 1;
            return;
        };
        let subject = record.subject();
        if !query.matches(&subject) {
            return;
        }
        coverage.records += 1;
        if matches!(record.protocol, Some(protocol::ICMP | protocol::ICMPV6)) {
            coverage.without_icmp_type += 1;
            return;
        }
        // Times of one form have the order of their texts.
        let (oldest, newest) = (first.map(rfc3339), last.map(rfc3339));
        coverage.oldest = [coverage.oldest.take(), oldest].into_iter().flatten().min();
        coverage.newest = coverage.newest.take().max(newest);
        self.add(&Observation {
            subject,
            source: Source::FlowLog,
            seen: match action {
                Action::Accept => Seen::Passed,
                Action::Reject => Seen::Dropped,
            },
            is_reply: action == Action::Accept && is_reply(record, directions),
            packets: record.packets.unwrap_or(0),
            bytes: record.bytes.unwrap_or(0),
            first,
            last,
        });
    }
}

/// The directions of rules, by their ids.
pub type Directions = HashMap<String, Direction>;

/// Those of the rules of a model.
#[must_use]
pub fn directions(model: &Model) -> Directions {
    let rules = model.groups.values().flat_map(|group| &group.rules);
    rules.map(|rule| (rule.id.to_string(), rule.spec.direction)).collect()
}

/// Whether a record is of the packets that answer: by its TCP flags, by the direction of its rule, or else, as the
/// lines of AWS say no more, because they come from the lower port.
fn is_reply(record: &Record, directions: &Directions) -> bool {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    if let Some(flags) = record.tcp_flags.filter(|flags| flags & SYN != 0) {
        return flags & ACK != 0;
    }
    let rule = record.rule.as_ref().and_then(|rule| directions.get(&rule.security_group_rule_id));
    if let Some((rule, direction)) = rule.zip(record.direction) {
        return *rule != direction;
    }
    record.source_port < record.destination_port
}
