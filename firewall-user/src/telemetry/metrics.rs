//! The metrics, read from the kernel's maps at the moment they are asked for.
//!
//! Labels are interfaces, directions, reasons, groups and rules: all bounded by what the user
//! said. No address is ever a label.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context as _, Result};
use firewall_ebpf::event::Event;
use firewall_ebpf::flow::Tier;
use firewall_ebpf::interface::Direction;
use firewall_ebpf::limits::ABI_VERSION;
use firewall_ebpf::policy::Counter;
use firewall_ebpf::reason::{Reason, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::control::Control;
use crate::dataplane::tables::counters::{ByEvent, ByReason};

/// The text's media type, for HTTP: the format that every Prometheus, its textfile collector and
/// `promtool check metrics` read.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One reading of everything.
#[derive(Debug)]
struct Reading {
    interfaces: Vec<Measured>,
    tables: Vec<crate::dataplane::flows::list::Occupancy>,
    rules: Vec<RuleCount>,
    generation: u64,
    panic: u64,
}

#[derive(Debug)]
struct Measured {
    label: String,
    counters: ByReason,
    events: ByEvent,
    evicted: u64,
}

#[derive(Debug)]
struct RuleCount {
    group: String,
    rule: String,
    count: Counter,
}

fn read(control: &Control) -> Result<Reading> {
    let model = control.model()?;
    let generation = control.store().generation()?;
    let mut reading = Reading {
        interfaces: Vec::new(),
        tables: Vec::new(),
        rules: Vec::new(),
        generation,
        panic: model.is_panicking.into(),
    };
    let Some(mut maps) = control.maps()? else { return Ok(reading) };
    let survey = maps.survey(model.interfaces.keys().copied())?;
    for interface in model.interfaces.values() {
        reading.interfaces.push(Measured {
            label: interface.label(),
            counters: maps.counters(interface.slot)?,
            events: maps.events(interface.slot)?,
            evicted: survey.evicted.get(&interface.slot).copied().unwrap_or_default(),
        });
    }
    reading.tables = maps.occupancy(&survey.flows);
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
    Ok(reading)
}

/// The metrics in Prometheus' text format.
///
/// # Errors
/// The store or the maps cannot be read.
pub fn text(control: &Control) -> Result<String> {
    let reading = read(control)?;
    let mut registry = Registry::with_prefix("secgroup");
    registry.register_collector(Box::new(reading));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).context("write the metrics")?;
    Ok(classic(&text))
}

/// OpenMetrics, which the library writes, as Prometheus' own format: there a counter's family has
/// the name of its samples, and no line marks the end.
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
    /// Packets and bytes that `keep` says, added up.
    fn sum(&self, keep: impl Fn(Direction, Reason) -> bool) -> Counter {
        let kept =
            self.counters.iter().filter(|((direction, reason), _)| keep(*direction, *reason));
        kept.fold(Counter::default(), |total, (_, one)| Counter {
            packets: total.packets + one.packets,
            bytes: total.bytes + one.bytes,
        })
    }
}

/// A family of counters: a line for each set of labels.
fn counters<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
) -> fmt::Result {
    family(encoder, name, help, MetricType::Counter, rows, |mut line, value| {
        line.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    })
}

/// A family of gauges: a line for each set of labels.
fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
) -> fmt::Result {
    family(encoder, name, help, MetricType::Gauge, rows, |mut line, value| {
        line.encode_gauge(&value)
    })
}

fn family<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    rows: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
    encode: impl Fn(MetricEncoder<'_>, u64) -> fmt::Result,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None::<&Unit>, kind)?;
    for (labels, value) in rows {
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        encode(family.encode_family(&labels)?, value)?;
    }
    Ok(())
}

/// A field of [`Counter`] with its word in metric names.
type Field = (&'static str, fn(Counter) -> u64);
const FIELDS: [Field; 2] = [("packets", |c| c.packets), ("bytes", |c| c.bytes)];

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        for (word, field) in FIELDS {
            let verdicts = [Verdict::Pass, Verdict::Drop];
            let rows = self.interfaces.iter().flat_map(|one| {
                Direction::ALL.into_iter().flat_map(move |direction| {
                    verdicts.into_iter().map(move |verdict| {
                        let keep = |d, r: Reason| d == direction && r.verdict() == verdict;
                        let labels = [
                            ("interface", one.label.clone()),
                            ("direction", direction.name().to_owned()),
                            ("verdict", verdict.name().to_owned()),
                        ];
                        (labels, field(one.sum(keep)))
                    })
                })
            });
            let help = format!("Judged {word}, by verdict");
            counters(encoder, word, &help, rows)?;
        }
        for (name, help, verdict, field) in [
            ("drops", "Dropped packets, by reason", Verdict::Drop, FIELDS[0].1),
            ("drop_bytes", "Dropped bytes, by reason", Verdict::Drop, FIELDS[1].1),
            ("passes", "Passed packets, by reason", Verdict::Pass, FIELDS[0].1),
        ] {
            let rows = self.interfaces.iter().flat_map(|one| {
                let chosen = one.counters.iter();
                let chosen = chosen.filter(move |((_, reason), _)| reason.verdict() == verdict);
                chosen.map(move |((direction, reason), counter)| {
                    let labels = [
                        ("interface", one.label.clone()),
                        ("direction", direction.name().to_owned()),
                        ("reason", reason.name().to_owned()),
                    ];
                    (labels, field(*counter))
                })
            });
            counters(encoder, name, help, rows)?;
        }
        let tables = |value: fn(&crate::dataplane::flows::list::Occupancy) -> u64| {
            self.tables.iter().map(move |table| {
                let family = if table.is_v6 { "ipv6" } else { "ipv4" };
                let labels =
                    [("tier", table.tier.name().to_owned()), ("family", family.to_owned())];
                (labels, value(table))
            })
        };
        let help = "Entries in the flow tables, by tier; expired ones count until they are reused";
        gauges(encoder, "flows", help, tables(|table| table.entries))?;
        let help = "Entries that fit into the flow tables, by tier";
        gauges(encoder, "flows_capacity", help, tables(|table| u64::from(table.capacity)))?;
        let help = format!(
            "Times that a proven flow found the {} table full and stayed in the {} one",
            Tier::Proven.name(),
            Tier::New.name()
        );
        let of = |value: fn(&Measured) -> u64| {
            let rows = self.interfaces.iter();
            rows.map(move |one| ([("interface", one.label.clone())], value(one)))
        };
        let unpromoted = of(|one| one.events[&Event::Unpromoted]);
        counters(encoder, "flows_unpromoted", &help, unpromoted)?;
        let help = "Packets that are counted as dropped and have passed, in audit";
        counters(encoder, "audited_packets", help, of(|one| one.events[&Event::Spared]))?;
        let opened = of(|one| one.events[&Event::Opened]);
        counters(encoder, "flows_opened", "Flows that began", opened)?;
        let promoted = of(|one| one.events[&Event::Promoted]);
        let help = "Flows that were proven and moved to the table that evicts nothing";
        counters(encoder, "flows_promoted", help, promoted)?;
        let help = "Unproven flows that gave way to newer ones because their table was full";
        counters(encoder, "flows_evicted", help, of(|one| one.evicted))?;
        for (name, help, field) in [
            ("rule_packets", "Packets of no flow that a rule admitted", FIELDS[0].1),
            ("rule_bytes", "Bytes of packets of no flow that a rule admitted", FIELDS[1].1),
        ] {
            let rows = self.rules.iter().map(|one| {
                let labels = [("group", one.group.clone()), ("rule", one.rule.clone())];
                (labels, field(one.count))
            });
            counters(encoder, name, help, rows)?;
        }
        // Without labels, so no family: that would write empty braces.
        encoder
            .encode_descriptor(
                "policy_generation",
                "Changes made to the store",
                None::<&Unit>,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.generation)?;
        encoder
            .encode_descriptor(
                "panic",
                "1 while nothing but the management networks passes",
                None::<&Unit>,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.panic)?;
        let build =
            [("version", env!("CARGO_PKG_VERSION").to_owned()), ("abi", ABI_VERSION.to_string())];
        gauges(encoder, "build_info", "The running build; always 1", [(build, 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_prometheus_names_them() {
        let open = "# HELP a_b Help me.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n\
                    # HELP g Help.\n# TYPE g gauge\ng 2\n# EOF\n";
        assert_eq!(
            classic(open),
            "# HELP a_b_total Help me.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n\
             # HELP g Help.\n# TYPE g gauge\ng 2\n"
        );
    }
}
