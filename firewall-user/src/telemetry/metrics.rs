//! The metrics, read from the kernel's maps at every scrape.
//!
//! Labels are interfaces, directions, reasons, groups, rules, prefix lists, network ACLs and their entries, flow logs:
//! their number is bounded by the configured objects. No address is a label.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context as _, Result};
use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::limits::ABI_VERSION;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::control::Control;
use crate::control::last_reconcile::LastReconcile;
use crate::dataplane::flows::list::Occupancy;
use crate::dataplane::tables::counters::{ByEvent, ByReason};
use crate::observe::flow_logs::status::Status;
use crate::observe::hits::RuleHits;
use crate::store::EndedCounts;

mod declaration;
mod read;
mod rows;
mod sources;

use declaration::{
    ACL_BYTES, ACL_PACKETS, ALLOWANCE_AVAILABLE, ALLOWANCE_EXCEEDED, AUDITED_PACKETS, BLOCK_BYTES,
    BLOCK_PACKETS, BLOCKS, BUILD_INFO, BYTES, DEVICE_PRESENT, DROP_BYTES, DROPS, ENDED, ENFORCING,
    FLOW_LOG_DELIVERED, FLOW_LOG_FAILED, FLOW_LOG_LOST, FLOWS, FLOWS_CAPACITY, FLOWS_EVICTED,
    FLOWS_OPENED, FLOWS_PROMOTED, FLOWS_SOURCE_LIMITED, FLOWS_UNPROMOTED, INTERFACE_INFO,
    JOURNAL_BYTES, JOURNAL_OLDEST, PACKETS, PANIC, PASSES, PENDING_CHANGE, PENDING_DEADLINE,
    POLICY_GENERATION, PREFIX, RECONCILE_SUCCESS, RECONCILE_TIMESTAMP, RECORDS_AGGREGATED,
    RECORDS_COLLECTING, RECORDS_FAILING, RECORDS_KEPT, RECORDS_LOST, RECORDS_SEEN,
    RECORDS_SELF_TEST, RECORDS_UNWRITTEN, RULE_BYTES, RULE_COVERED, RULE_FIRST_HIT, RULE_FLOWS,
    RULE_LAST_HIT, RULE_PACKETS, STORE_GENERATION, STORE_READABLE, TABLES_READABLE,
};
pub use declaration::{Kind, METRICS, Metric};
use rows::{BYTES_FIELD, PACKETS_FIELD};
pub use sources::{Journal, RecordAccount, Records, Sources};

/// The text's media type, for HTTP: the format that every Prometheus, its textfile collector and
/// `promtool check metrics` read.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The values of a scrape.
#[derive(Debug, Default)]
struct Reading {
    stored: Vec<Stored>,
    interfaces: Vec<Measured>,
    tables: Vec<Occupancy>,
    rules: Vec<RuleCount>,
    entries: Vec<EntryCount>,
    blocks: Vec<BlockCount>,
    flow_logs: Vec<Delivered>,
    /// `None` where no one told.
    records: Option<Records>,
    /// What the store tells about itself; `None` if it cannot be read.
    store: Option<StoreValues>,
    tables_readable: bool,
}

#[derive(Debug)]
struct StoreValues {
    generation: u64,
    panic: bool,
    /// The time of the rollback of an unconfirmed change, in seconds since 1970.
    deadline: Option<u64>,
    /// Blocks in force of networks, and of prefix lists.
    blocks: [u64; 2],
    ended: EndedCounts,
}

/// A stored interface, also one that is not attached.
#[derive(Debug)]
struct Stored {
    label: String,
    mode: &'static str,
    acl: String,
    /// What the kernel does for it; `None` if that cannot be read.
    kernel: Option<InKernel>,
    last: Option<LastReconcile>,
}

/// What the kernel does for an interface.
#[derive(Debug)]
struct InKernel {
    hook: &'static str,
    is_enforcing: bool,
    has_device: bool,
    generation: u64,
}

#[derive(Debug)]
struct Measured {
    slot: u16,
    label: String,
    counters: ByReason,
    events: ByEvent,
    evicted: u64,
}

impl Measured {
    /// How often a flow table was full.
    fn exceeded(&self) -> u64 {
        let dropped = Direction::ALL.iter().filter_map(|direction| {
            Some(self.counters.get(&(*direction, Reason::FlowTableFull))?.packets)
        });
        self.evicted + self.events[&Event::Unpromoted] + dropped.sum::<u64>()
    }
}

#[derive(Debug)]
struct RuleCount {
    number: u32,
    group: String,
    rule: String,
    /// `None` while nothing is attached.
    count: Option<Counter>,
    /// Other rules of its group allow all of its traffic.
    is_covered: bool,
    /// What it was used for, as far as that was counted.
    hits: Option<RuleHits>,
}

/// What an entry of a network ACL has counted.
#[derive(Debug)]
struct EntryCount {
    /// Network ACL, direction, number and action.
    labels: [String; 4],
    count: Counter,
}

/// What the block of a prefix list has counted.
#[derive(Debug)]
struct BlockCount {
    /// Prefix list and interface.
    labels: [String; 2],
    count: Counter,
}

/// What became of the records of a flow log.
#[derive(Debug)]
struct Delivered {
    id: String,
    status: Status,
}

/// The metrics that could be read, and the first error.
#[derive(Debug)]
pub struct Scrape {
    /// The metrics in Prometheus' text format.
    pub text: String,
    /// Why some metrics are missing. The text tells it too if it is for want of the store or of what is in the kernel:
    /// `store_readable` or `tables_readable` is 0.
    pub error: Option<anyhow::Error>,
}

/// Reads the metrics. What cannot be read is left out, so that a scrape shows what is wrong.
///
/// # Errors
/// The text cannot be written.
pub fn scrape(open: impl FnOnce() -> Result<Control>, sources: &Sources) -> Result<Scrape> {
    let mut reading = Reading { records: sources.records(), ..Reading::default() };
    let error = read::read(open, sources, &mut reading).err();
    if error.is_some() {
        // Half of the interfaces would look like all of them.
        (reading.interfaces, reading.tables) = Default::default();
        (reading.rules, reading.entries, reading.blocks) = Default::default();
    }
    Ok(Scrape { text: encoded(reading)?, error })
}

fn encoded(reading: Reading) -> Result<String> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(reading));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).context("write the metrics")?;
    Ok(classic(&text))
}

/// Converts OpenMetrics, which the library writes, to the text format of Prometheus: there a family of
/// counters has the name of its samples, and no line marks the end.
fn classic(open_metrics: &str) -> String {
    let counters: HashSet<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|start| {
            let (name, rest) = line.strip_prefix(start)?.split_once(' ')?;
            counters.contains(name).then(|| format!("{start}{name}_total {rest}"))
        });
        text.push_str(described.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

/// Encodes a metric: a line for each row of label values, in the order of the declared labels.
fn encode<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    rows: impl IntoIterator<Item = ([String; N], u64)>,
) -> fmt::Result {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut family =
        encoder.encode_descriptor(metric.bare_name(), metric.help, None::<&Unit>, kind)?;
    for (values, value) in rows {
        let labels: Vec<_> = metric.labels.iter().copied().zip(&values).collect();
        // A family without labels would write empty braces.
        let encode = |mut line: MetricEncoder<'_>| match metric.kind {
            Kind::Counter => line.encode_counter::<NoLabelSet, u64, u64>(&value, None),
            Kind::Gauge => line.encode_gauge(&value),
        };
        if labels.is_empty() {
            return encode(family);
        }
        encode(family.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        let event = |event: Event| self.by_interface(move |one| one.events[&event]);
        let build = [env!("CARGO_PKG_VERSION").to_owned(), ABI_VERSION.to_string()];
        encode(to, &ENFORCING, self.by_kernel(|one| one.is_enforcing.into()))?;
        encode(to, &DEVICE_PRESENT, self.by_kernel(|one| one.has_device.into()))?;
        encode(to, &INTERFACE_INFO, self.info())?;
        encode(to, &POLICY_GENERATION, self.by_kernel(|one| one.generation))?;
        encode(to, &RECONCILE_TIMESTAMP, self.by_stored(|one| Some(one.last?.time)))?;
        encode(to, &RECONCILE_SUCCESS, self.by_stored(|one| Some(one.last?.succeeded.into())))?;
        encode(to, &PENDING_CHANGE, self.of_store(|store| store.deadline.is_some().into()))?;
        encode(to, &PENDING_DEADLINE, self.of_store(|store| store.deadline.unwrap_or(0)))?;
        encode(to, &STORE_READABLE, [([], self.store.is_some().into())])?;
        encode(to, &TABLES_READABLE, [([], self.tables_readable.into())])?;
        encode(to, &PACKETS, self.by_verdict(PACKETS_FIELD))?;
        encode(to, &BYTES, self.by_verdict(BYTES_FIELD))?;
        encode(to, &DROPS, self.by_reason(Verdict::Drop, PACKETS_FIELD))?;
        encode(to, &DROP_BYTES, self.by_reason(Verdict::Drop, BYTES_FIELD))?;
        encode(to, &PASSES, self.by_reason(Verdict::Pass, PACKETS_FIELD))?;
        encode(to, &FLOWS, self.by_table(|table| table.entries))?;
        encode(to, &FLOWS_CAPACITY, self.by_table(|table| table.capacity.into()))?;
        encode(to, &FLOWS_UNPROMOTED, event(Event::Unpromoted))?;
        encode(to, &FLOWS_SOURCE_LIMITED, event(Event::SourceLimited))?;
        encode(to, &AUDITED_PACKETS, event(Event::AuditPassed))?;
        encode(to, &FLOWS_OPENED, event(Event::Opened))?;
        encode(to, &FLOWS_PROMOTED, event(Event::Promoted))?;
        encode(to, &FLOWS_EVICTED, self.by_interface(|one| one.evicted))?;
        encode(to, &ALLOWANCE_AVAILABLE, self.allowances())?;
        encode(to, &ALLOWANCE_EXCEEDED, self.by_interface(Measured::exceeded))?;
        encode(to, &RULE_PACKETS, self.by_rule(PACKETS_FIELD))?;
        encode(to, &RULE_BYTES, self.by_rule(BYTES_FIELD))?;
        encode(to, &RULE_FLOWS, self.by_hits(|hits| Some(hits.new_flows)))?;
        encode(to, &RULE_FIRST_HIT, self.by_hits(|hits| rows::seconds(hits.first)))?;
        encode(to, &RULE_LAST_HIT, self.by_hits(|hits| rows::seconds(hits.last)))?;
        encode(to, &RULE_COVERED, self.covered())?;
        encode(to, &ACL_PACKETS, self.by_entry(PACKETS_FIELD))?;
        encode(to, &ACL_BYTES, self.by_entry(BYTES_FIELD))?;
        encode(to, &BLOCKS, self.blocks())?;
        encode(to, &BLOCK_PACKETS, self.by_block(PACKETS_FIELD))?;
        encode(to, &BLOCK_BYTES, self.by_block(BYTES_FIELD))?;
        encode(to, &ENDED, self.ended())?;
        encode(
            to,
            &RECORDS_COLLECTING,
            self.of_records(|records| Some(records.is_collecting.into())),
        )?;
        encode(to, &RECORDS_FAILING, self.of_records(|records| Some(records.is_failing.into())))?;
        encode(to, &RECORDS_SEEN, self.by_account(|account| account.seen))?;
        encode(to, &RECORDS_KEPT, self.by_account(|account| account.kept))?;
        encode(to, &RECORDS_AGGREGATED, self.by_account(|account| account.aggregated))?;
        encode(to, &RECORDS_LOST, self.by_account(|account| account.lost))?;
        encode(to, &RECORDS_UNWRITTEN, self.of_records(|records| Some(records.unwritten)))?;
        encode(
            to,
            &RECORDS_SELF_TEST,
            self.of_records(|records| rows::seconds(records.self_test)),
        )?;
        encode(to, &JOURNAL_BYTES, self.of_records(|records| Some(records.journal?.bytes)))?;
        encode(
            to,
            &JOURNAL_OLDEST,
            self.of_records(|records| rows::seconds(records.journal?.oldest)),
        )?;
        encode(to, &FLOW_LOG_FAILED, self.by_flow_log(|status| status.error.is_some().into()))?;
        encode(to, &FLOW_LOG_DELIVERED, self.by_flow_log(|status| status.delivered))?;
        encode(to, &FLOW_LOG_LOST, self.by_flow_log(|status| status.failed))?;
        encode(to, &STORE_GENERATION, self.of_store(|store| store.generation))?;
        encode(to, &PANIC, self.of_store(|store| store.panic.into()))?;
        encode(to, &BUILD_INFO, [(build, 1)])
    }
}

#[cfg(test)]
mod tests;
