//! The metrics, read from the kernel's maps at every scrape.
//!
//! Labels are interfaces, directions, reasons, groups, rules, prefix lists, network ACLs and their entries: their
//! number is bounded by the configured objects. No address is a label.

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::Table;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::limits::ABI_VERSION;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::Clocks;
use crate::control::Control;
use crate::control::enforcement::State;
use crate::control::last_reconcile::LastReconcile;
use crate::dataplane::flows::list::Occupancy;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::tables::counters::{ByEvent, ByReason};
use crate::dataplane::tables::maps::Maps;
use crate::model::{EndedKind, Family, Interface, Model, Peer};
use crate::store::EndedCounts;

mod declaration;

use declaration::{
    ACL_BYTES, ACL_PACKETS, ALLOWANCE_AVAILABLE, ALLOWANCE_EXCEEDED, AUDITED_PACKETS, BLOCK_BYTES,
    BLOCK_PACKETS, BLOCKS, BUILD_INFO, BYTES, DEVICE_PRESENT, DROP_BYTES, DROPS, ENDED, ENFORCING,
    FLOWS, FLOWS_CAPACITY, FLOWS_EVICTED, FLOWS_OPENED, FLOWS_PROMOTED, FLOWS_SOURCE_LIMITED,
    FLOWS_UNPROMOTED, INTERFACE_INFO, PACKETS, PANIC, PASSES, PENDING_CHANGE, PENDING_DEADLINE,
    POLICY_GENERATION, PREFIX, RECONCILE_SUCCESS, RECONCILE_TIMESTAMP, RULE_BYTES, RULE_PACKETS,
    STORE_GENERATION, STORE_READABLE, TABLES_READABLE,
};
pub use declaration::{Kind, METRICS, Metric};

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
    hook: &'static str,
    acl: String,
    is_enforcing: bool,
    has_device: bool,
    generation: u64,
    last: Option<LastReconcile>,
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
    group: String,
    rule: String,
    count: Counter,
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

/// The metrics that could be read, and the first error.
#[derive(Debug)]
pub struct Scrape {
    /// The metrics in Prometheus' text format.
    pub text: String,
    /// Why some metrics are missing. The text tells it too: `store_readable` or `tables_readable` is 0, or
    /// `enforcing` of an interface.
    pub error: Option<anyhow::Error>,
}

/// Reads the metrics. What cannot be read is left out, so that a scrape shows what is wrong.
///
/// # Errors
/// The text cannot be written.
pub fn scrape(open: impl FnOnce() -> Result<Control>) -> Result<Scrape> {
    let mut reading = Reading::default();
    let error = read(open, &mut reading).err();
    if error.is_some() {
        // Half of the interfaces would look like all of them.
        (reading.interfaces, reading.tables) = Default::default();
        (reading.rules, reading.entries) = Default::default();
    }
    Ok(Scrape { text: encoded(reading)?, error })
}

fn read(open: impl FnOnce() -> Result<Control>, reading: &mut Reading) -> Result<()> {
    let control = open()?;
    let model = control.model()?;
    let change = control.unconfirmed_change()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    reading.store = Some(StoreValues {
        generation: control.store().generation()?,
        panic: model.is_panicking,
        deadline: change.map(|change| (now + change.left).as_secs()),
        blocks: blocks_in_force(&model),
        ended: control.store().ended()?,
    });
    let maps = control.maps();
    // Without tables nothing is enforced, whatever is attached.
    let readable = maps.as_ref().ok().and_then(Option::as_ref);
    let (last, mut first) = (control.last_reconciles(), None);
    for interface in model.interfaces.values() {
        let found = control.enforcement(readable, interface);
        let found = found.map_err(|error| first = first.take().or(Some(error))).ok();
        reading.stored.push(Stored {
            label: interface.label(),
            mode: interface.mode.name(),
            hook: found.as_ref().and_then(|one| one.hook).map_or("none", Hook::name),
            acl: model.acl_of(interface).map_or_else(String::new, |acl| acl.id.to_string()),
            is_enforcing: found.as_ref().is_some_and(|one| one.state.is_enforced()),
            // One that cannot be examined counts as one that is not enforced.
            has_device: found.as_ref().is_none_or(|one| one.state != State::DeviceMissing),
            generation: found.map_or(0, |one| one.active.generation().into()),
            last: last.get(&interface.id.to_string()).copied(),
        });
    }
    let maps = maps?;
    if let Some(mut maps) = maps {
        read_tables(&mut maps, &model, reading)?;
    }
    reading.tables_readable = true;
    first.map_or(Ok(()), Err)
}

/// Those of networks, and those of prefix lists.
fn blocks_in_force(model: &Model) -> [u64; 2] {
    let now = Clocks::now().moment.boottime;
    let mut counts = [0, 0];
    for block in model.blocks.values() {
        if block.end.is_none_or(|end| end.left(now).is_some()) {
            counts[usize::from(matches!(block.target, Peer::PrefixList(_)))] += 1;
        }
    }
    counts
}

fn read_tables(maps: &mut Maps, model: &Model, reading: &mut Reading) -> Result<()> {
    let survey = maps.survey(model.interfaces.keys().copied())?;
    for interface in model.interfaces.values() {
        reading.interfaces.push(Measured {
            slot: interface.slot,
            label: interface.label(),
            counters: maps.counters(interface.slot)?,
            events: maps.events(interface.slot)?,
            evicted: survey.evicted.get(&interface.slot).copied().unwrap_or_default(),
        });
    }
    reading.tables = maps.occupancy(&survey.flows)?;
    let counts = maps.rule_counters()?;
    for group in model.groups.values() {
        for rule in &group.rules {
            if let Some(count) = counts.get(&rule.number) {
                reading.rules.push(RuleCount {
                    group: group.id.to_string(),
                    rule: rule.id.to_string(),
                    count: *count,
                });
            }
        }
    }
    for acl in model.acls.values() {
        for ((direction, number), entry) in &acl.entries {
            if let Some(count) = counts.get(&entry.number) {
                let (acl, action) = (acl.id.to_string(), entry.action.name().to_owned());
                let labels = [acl, direction.name().to_owned(), number.to_string(), action];
                reading.entries.push(EntryCount { labels, count: *count });
            }
        }
    }
    for block in model.blocks.values() {
        if let (Peer::PrefixList(list), Some(count)) = (&block.target, counts.get(&block.number)) {
            let found = block.interface.as_ref().and_then(|id| {
                let mut interfaces = model.interfaces.values();
                interfaces.find(|interface| interface.id == *id)
            });
            let interface = found.map_or_else(String::new, Interface::label);
            reading
                .blocks
                .push(BlockCount { labels: [list.to_string(), interface], count: *count });
        }
    }
    Ok(())
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

impl Measured {
    /// The sum of the counters that `keep` selects.
    fn sum(&self, keep: impl Fn(Direction, Reason) -> bool) -> Counter {
        let kept =
            self.counters.iter().filter(|((direction, reason), _)| keep(*direction, *reason));
        kept.fold(Counter::default(), |total, (_, one)| Counter {
            packets: total.packets + one.packets,
            bytes: total.bytes + one.bytes,
        })
    }
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

/// A field of [`Counter`].
type Field = fn(Counter) -> u64;
const PACKETS_FIELD: Field = |counter| counter.packets;
const BYTES_FIELD: Field = |counter| counter.bytes;

impl Reading {
    /// A field by interface, direction and verdict.
    fn by_verdict(&self, field: Field) -> impl Iterator<Item = ([String; 3], u64)> {
        let verdicts = [Verdict::Pass, Verdict::Drop];
        self.interfaces.iter().flat_map(move |one| {
            Direction::ALL.into_iter().flat_map(move |direction| {
                verdicts.into_iter().map(move |verdict| {
                    let keep = |d, r: Reason| d == direction && r.verdict() == verdict;
                    let labels = [one.label.as_str(), direction.name(), verdict.name()];
                    (labels.map(str::to_owned), field(one.sum(keep)))
                })
            })
        })
    }

    /// A field by interface, direction and reason, of the reasons with a verdict.
    fn by_reason(
        &self,
        verdict: Verdict,
        field: Field,
    ) -> impl Iterator<Item = ([String; 3], u64)> {
        self.interfaces.iter().flat_map(move |one| {
            let counters = one.counters.iter();
            let chosen = counters.filter(move |((_, reason), _)| reason.verdict() == verdict);
            chosen.map(move |((direction, reason), counter)| {
                let labels = [one.label.as_str(), direction.name(), reason.name()];
                (labels.map(str::to_owned), field(*counter))
            })
        })
    }

    fn by_table(&self, value: fn(&Occupancy) -> u64) -> impl Iterator<Item = ([String; 3], u64)> {
        self.tables.iter().filter_map(move |table| {
            let one = self.interfaces.iter().find(|one| one.slot == table.slot)?;
            let family = if table.is_v6 { Family::Ipv6 } else { Family::Ipv4 };
            let labels = [one.label.as_str(), table.table.name(), family.name()];
            Some((labels.map(str::to_owned), value(table)))
        })
    }

    /// The flows that an interface can still track: free entries for proven TCP flows, of the family that
    /// has fewer.
    fn allowance(&self, one: &Measured) -> u64 {
        let tcp = |table: &&Occupancy| (table.slot, table.table) == (one.slot, Table::Tcp);
        let free = |table: &Occupancy| u64::from(table.capacity).saturating_sub(table.entries);
        self.tables.iter().filter(tcp).map(free).min().unwrap_or_default()
    }

    fn by_interface(
        &self,
        value: impl Fn(&Measured) -> u64,
    ) -> impl Iterator<Item = ([String; 1], u64)> {
        self.interfaces.iter().map(move |one| ([one.label.clone()], value(one)))
    }

    fn by_stored(
        &self,
        value: fn(&Stored) -> Option<u64>,
    ) -> impl Iterator<Item = ([String; 1], u64)> {
        self.stored.iter().filter_map(move |one| Some(([one.label.clone()], value(one)?)))
    }

    fn info(&self) -> impl Iterator<Item = ([String; 4], u64)> {
        let labels =
            |one: &Stored| [one.label.as_str(), one.mode, one.hook, &one.acl].map(str::to_owned);
        self.stored.iter().map(move |one| (labels(one), 1))
    }

    fn of_store(&self, value: fn(&StoreValues) -> u64) -> Option<([String; 0], u64)> {
        self.store.as_ref().map(|store| ([], value(store)))
    }

    fn by_entry(&self, field: Field) -> impl Iterator<Item = ([String; 4], u64)> {
        self.entries.iter().map(move |one| (one.labels.clone(), field(one.count)))
    }

    fn by_block(&self, field: Field) -> impl Iterator<Item = ([String; 2], u64)> {
        self.blocks.iter().map(move |one| (one.labels.clone(), field(one.count)))
    }

    fn blocks(&self) -> impl Iterator<Item = ([String; 1], u64)> {
        let kinds = ["network", "prefix-list"];
        let counts = self.store.as_ref().map(|store| store.blocks);
        let rows = counts.into_iter().flat_map(move |counts| kinds.into_iter().zip(counts));
        rows.map(|(kind, count)| ([kind.to_owned()], count))
    }

    fn ended(&self) -> impl Iterator<Item = ([String; 1], u64)> {
        let counts = self.store.as_ref().map(|store| store.ended);
        counts.into_iter().flat_map(|EndedCounts { rules, acl_entries, blocks }| {
            let kinds = [
                (EndedKind::Rule, rules),
                (EndedKind::AclEntry, acl_entries),
                (EndedKind::Block, blocks),
            ];
            kinds.map(|(kind, count)| ([kind.name().to_owned()], count))
        })
    }

    fn by_rule(&self, field: Field) -> impl Iterator<Item = ([String; 2], u64)> {
        self.rules.iter().map(move |one| ([one.group.clone(), one.rule.clone()], field(one.count)))
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        let event = |event: Event| self.by_interface(move |one| one.events[&event]);
        let build = [env!("CARGO_PKG_VERSION").to_owned(), ABI_VERSION.to_string()];
        encode(to, &ENFORCING, self.by_stored(|one| Some(one.is_enforcing.into())))?;
        encode(to, &DEVICE_PRESENT, self.by_stored(|one| Some(one.has_device.into())))?;
        encode(to, &INTERFACE_INFO, self.info())?;
        encode(to, &POLICY_GENERATION, self.by_stored(|one| Some(one.generation)))?;
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
        encode(to, &ALLOWANCE_AVAILABLE, self.by_interface(|one| self.allowance(one)))?;
        encode(to, &ALLOWANCE_EXCEEDED, self.by_interface(Measured::exceeded))?;
        encode(to, &RULE_PACKETS, self.by_rule(PACKETS_FIELD))?;
        encode(to, &RULE_BYTES, self.by_rule(BYTES_FIELD))?;
        encode(to, &ACL_PACKETS, self.by_entry(PACKETS_FIELD))?;
        encode(to, &ACL_BYTES, self.by_entry(BYTES_FIELD))?;
        encode(to, &BLOCKS, self.blocks())?;
        encode(to, &BLOCK_PACKETS, self.by_block(PACKETS_FIELD))?;
        encode(to, &BLOCK_BYTES, self.by_block(BYTES_FIELD))?;
        encode(to, &ENDED, self.ended())?;
        encode(to, &STORE_GENERATION, self.of_store(|store| store.generation))?;
        encode(to, &PANIC, self.of_store(|store| store.panic.into()))?;
        encode(to, &BUILD_INFO, [(build, 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_of_counters_has_the_name_of_its_samples() {
        let open = "# HELP a_b Help me.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n\
                    # HELP g Help.\n# TYPE g gauge\ng 2\n# EOF\n";
        assert_eq!(
            classic(open),
            "# HELP a_b_total Help me.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n\
             # HELP g Help.\n# TYPE g gauge\ng 2\n"
        );
    }

    fn sample() -> Reading {
        let counters = Direction::ALL.into_iter().flat_map(|direction| {
            Reason::ALL.iter().map(move |reason| ((direction, *reason), Counter::default()))
        });
        let interface = Measured {
            slot: 0,
            label: "eth0".to_owned(),
            counters: counters.collect(),
            events: Event::ALL.iter().map(|event| (*event, 0)).collect(),
            evicted: 0,
        };
        let table = Occupancy {
            slot: 0,
            table: Table::New,
            is_v6: false,
            entries: 0,
            capacity: 1,
            memory: None,
        };
        let rule =
            RuleCount { group: "g".to_owned(), rule: "r".to_owned(), count: Counter::default() };
        let labels = ["acl-1", "ingress", "100", "deny"].map(str::to_owned);
        let entry = EntryCount { labels, count: Counter::default() };
        let labels = ["pl-1", "eth0"].map(str::to_owned);
        let block = BlockCount { labels, count: Counter::default() };
        let stored = Stored {
            label: "eth0".to_owned(),
            mode: "enforce",
            hook: "tcx",
            acl: "acl-1".to_owned(),
            is_enforcing: true,
            has_device: true,
            generation: 0,
            last: Some(LastReconcile { time: 0, succeeded: true }),
        };
        Reading {
            interfaces: vec![interface],
            tables: vec![table],
            rules: vec![rule],
            entries: vec![entry],
            blocks: vec![block],
            stored: vec![stored],
            store: Some(StoreValues {
                generation: 0,
                panic: false,
                deadline: None,
                blocks: [0, 0],
                ended: EndedCounts::default(),
            }),
            tables_readable: true,
        }
    }

    #[test]
    fn a_scrape_has_every_declared_metric_with_its_labels_and_no_other() {
        let text = encoded(sample()).unwrap();
        let families: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let declared: Vec<_> = METRICS
            .iter()
            .map(|metric| format!("{} {}", metric.full_name(), metric.kind.name()))
            .collect();
        assert_eq!(families, declared);
        let mut seen = HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let metric = METRICS.iter().find(|metric| metric.full_name() == name).unwrap();
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let labels: Vec<_> = labels.map(|label| label.split_once('=').unwrap().0).collect();
            assert_eq!(labels, metric.labels, "{line}");
            seen.insert(name.to_owned());
        }
        assert_eq!(seen.len(), METRICS.len(), "every metric has a sample");
    }
}
