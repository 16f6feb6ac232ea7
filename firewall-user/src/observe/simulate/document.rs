//! The result of a simulation as JSON, with what it covers.

use firewall_ebpf::wire::protocol;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Comparison, Connection, Denial, Ruleset, Source};
use crate::model::rfc3339;
use crate::observe::SCHEMA_VERSION;
use crate::observe::explain::EntryName;
use crate::observe::flow_logs::lacking::Lacking;
use crate::observe::hits::RuleHits;
use crate::observe::journal::{Account, Coverage};
use crate::observe::record::{NearestMiss, RuleName};
use crate::observe::untracked::{Denied, Ended};
use crate::policy::services;

/// What a proposed configuration would do to what was seen.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct SimulationDocument {
    /// Version of this document: 1.
    pub schema_version: u32,
    /// Connections that passed, and that no proposed rule allows, or a proposed block or entry of a network ACL denies.
    pub breaks: Vec<ConnectionDocument>,
    /// Connections that were dropped, and that the proposed configuration lets pass.
    pub passes: Vec<ConnectionDocument>,
    /// Rules whose packets pass without a flow (untracked), and of which the proposed configuration drops all or some:
    /// nothing keeps their open connections, which are in no flow table.
    pub untracked: Vec<UntrackedRule>,
    /// Proposed rules that allow nothing of what was seen, and have no hit since then; null: not told with a filter.
    pub unused_rules: Option<Vec<UnusedRule>>,
    /// What was compared, and what was not seen.
    pub coverage: CoverageDocument,
}

/// Connections that differ in nothing but the port of the end that opens them.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectionDocument {
    /// Id of the interface, `eni-…`.
    pub network_interface_id: String,
    /// Network device; empty where the record does not have it.
    pub device: String,
    /// Named network namespace of the device.
    pub netns: Option<String>,
    /// Direction of the first packet: `ingress` or `egress`.
    pub direction: &'static str,
    /// IP protocol number.
    pub protocol: u8,
    /// Address of the end that opens them.
    pub source: String,
    /// Address of the other end.
    pub destination: String,
    /// Destination port of TCP and UDP.
    pub port: Option<u16>,
    /// The name of the port.
    pub service: Option<&'static str>,
    /// Type of the ICMP message that opens them.
    pub icmp_type: Option<u8>,
    /// Its code.
    pub icmp_code: Option<u8>,
    /// `live`, `journal`, `flow-log` or `capture`.
    pub seen_in: &'static str,
    /// Live flows, or different addresses and ports in records.
    pub connections: u64,
    /// Live flows, or records: a connection that is tried again has several, and one of flow logs has them for every
    /// direction and interval.
    pub records: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the first packet came, UTC.
    pub first: Option<String>,
    /// When the last packet came, UTC.
    pub last: Option<String>,
    /// The rule that let them pass; of dropped ones the proposed rule that would.
    pub rule: Option<RuleDocument>,
    /// Where no proposed rule allows them, the one that comes closest.
    pub nearest_miss: Option<MissDocument>,
    /// The proposed block or entry of a network ACL that denies them; of those that would pass, the one of today.
    pub denied_by: Option<DenialDocument>,
    /// Whether live flows end with the change: a block or an entry denies them, or the interface has `--revalidate on`.
    /// Otherwise they go on, as in EC2, and none can be opened anew.
    pub is_cut: bool,
}

/// What denies a connection.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DenialDocument {
    /// The block or the entry.
    #[serde(flatten)]
    pub entry: EntryName,
    /// Whether it denies the answers, not what the end sends that opens the connection.
    pub is_answer: bool,
}

/// A rule by its names.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RuleDocument {
    /// Id of the rule.
    pub security_group_rule_id: String,
    /// Id of its group.
    pub group_id: String,
    /// Name of its group.
    pub group_name: String,
}

/// A rule that does not allow a packet, and the first of its fields that the packet does not match.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct MissDocument {
    /// The rule.
    #[serde(flatten)]
    pub name: RuleDocument,
    /// `direction`, `protocol`, `address` or `port`.
    pub field: String,
    /// What the rule has in this field.
    pub rule_value: String,
    /// What the packet has.
    pub packet_value: String,
}

impl RuleDocument {
    fn new(name: &RuleName) -> Self {
        let RuleName { security_group_rule_id, group_id, group_name } = name.clone();
        Self { security_group_rule_id, group_id, group_name }
    }
}

impl DenialDocument {
    fn new(denial: &Denial) -> Self {
        let Denial { entry, is_answer } = denial.clone();
        Self { entry, is_answer }
    }
}

impl MissDocument {
    fn new(miss: &NearestMiss) -> Self {
        let NearestMiss { rule, field, rule_value, packet_value } = miss.clone();
        Self { name: RuleDocument::new(&rule), field, rule_value, packet_value }
    }
}

/// A proposed rule that allows nothing of what was seen.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct UnusedRule {
    /// The rule.
    #[serde(flatten)]
    pub name: RuleDocument,
    /// As text.
    pub rule: String,
}

/// A rule whose packets pass without a flow, and of which the proposed configuration drops all or some.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct UntrackedRule {
    /// The rule.
    #[serde(flatten)]
    pub name: RuleDocument,
    /// As text.
    pub rule: String,
    /// The interfaces, as `DEVICE` or `NAMESPACE/DEVICE`.
    pub interfaces: Vec<String>,
    /// Packets that it has allowed so far.
    pub packets: u64,
    /// When the last of these packets passed, UTC; null without one.
    pub last_hit: Option<String>,
    /// The proposed block or entry of a network ACL that denies packets of the rule, or their answers; null: no proposed
    /// rule allows them.
    pub denied_by: Option<DenialDocument>,
}

impl UntrackedRule {
    /// Of a rule by its number, with what becomes of its packets and its hits; `None`: a rule that has no name, as that
    /// of the management networks.
    #[must_use]
    pub fn new(
        (now, proposed): (&Ruleset, &Ruleset),
        (number, denied): Ended,
        interfaces: Vec<String>,
        hits: &RuleHits,
    ) -> Option<Self> {
        let denied_by = |denied: Denied| {
            let entry = proposed.entry(denied.number)?.clone();
            Some(DenialDocument { entry, is_answer: denied.is_answer })
        };
        Some(Self {
            name: RuleDocument::new(now.name(number)?),
            rule: now.text(number)?.to_owned(),
            interfaces,
            packets: hits.packets,
            last_hit: hits.last.map(rfc3339),
            denied_by: denied.and_then(denied_by),
        })
    }
}

/// What a simulation has compared, and what was not seen.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct CoverageDocument {
    /// Records since this time were asked for, UTC.
    pub since: String,
    /// Now, UTC.
    pub until: String,
    /// Whether a filter has chosen what was compared.
    pub is_filtered: bool,
    /// Different connections that were compared.
    pub compared: u64,
    /// As of when the hits of rules are, UTC; null: none was counted yet.
    pub hits_as_of: Option<String>,
    /// Live flows that were read; null: they were not.
    pub live_flows: Option<u64>,
    /// The journal of dropped packets; null: it was not read.
    pub journal: Option<JournalCoverage>,
    /// The files of flow logs; null: none was read.
    pub flow_logs: Option<FilesCoverage>,
    /// The captures of packets; null: none was read.
    pub captures: Option<CaptureCoverage>,
    /// Dropped connections that the configuration of today lets pass already.
    pub passes_already: u64,
    /// Connections that passed, and that the configuration of today would not let pass anew.
    pub broken_already: u64,
    /// Packets that neither rules, network ACLs nor blocks decided about; the simulation says nothing about them.
    pub packets_not_simulated: u64,
    /// Packets of interfaces that are not attached.
    pub packets_of_other_interfaces: u64,
    /// Connections beyond the number that is compared.
    pub connections_beyond_limit: u64,
    /// What may be missing, in words.
    pub notes: Vec<String>,
}

/// What the journal covers.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct JournalCoverage {
    /// Time of its oldest record or account, UTC.
    pub oldest: Option<String>,
    /// Whether it goes back to the time that was asked for.
    pub covers_window: bool,
    /// Records that were read.
    pub records: u64,
    /// Dropped packets in the window.
    pub seen: u64,
    /// Those of them that no record has.
    pub lost: u64,
    /// Whether more may be lost than is known.
    pub is_partial: bool,
    /// Damaged lines.
    pub damaged: u64,
}

/// What files of flow logs cover.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FilesCoverage {
    /// Files.
    pub files: u64,
    /// Records of packets.
    pub records: u64,
    /// Records of intervals without packets.
    pub without_packets: u64,
    /// Damaged lines: they are no records.
    pub damaged: u64,
    /// Records of ICMP, which have no type, so that no rule can be compared with them.
    pub without_icmp_type: u64,
    /// Records whose direction cannot be told: they have no `flow-direction`, and none or both of their addresses are
    /// the interface's.
    pub without_direction: u64,
    /// Intervals with packets that are in no record (SKIPDATA).
    pub skipped: u64,
    /// Time of the oldest record, UTC.
    pub oldest: Option<String>,
    /// Time of the newest record, UTC.
    pub newest: Option<String>,
    /// Filters that match nothing in them.
    #[serde(skip)]
    pub lacking: Lacking,
}

/// What captures of packets had.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct CaptureCoverage {
    /// Packets that open a connection.
    pub opening_packets: u64,
    /// Packets that belong to a connection, and those that are not IP.
    pub other_packets: u64,
    /// Packets whose addresses no attached interface has.
    pub packets_of_other_addresses: u64,
}

impl JournalCoverage {
    /// Of a window that begins at `since`, in milliseconds since 1970; `records` were read.
    #[must_use]
    pub fn new(coverage: &Coverage, since: i64, records: u64) -> Self {
        let Account { seen, lost, partial, .. } = coverage.since(since).unwrap_or_default();
        Self {
            oldest: coverage.oldest.map(rfc3339),
            covers_window: coverage.oldest.is_some_and(|oldest| oldest <= since),
            records,
            seen,
            lost,
            is_partial: partial,
            damaged: coverage.damaged,
        }
    }
}

impl SimulationDocument {
    /// The document of a comparison; `coverage` has what was read. Where only a part was compared, most rules allow
    /// nothing of it.
    #[must_use]
    pub fn new(
        comparison: &Comparison,
        untracked: Vec<UntrackedRule>,
        coverage: CoverageDocument,
    ) -> Self {
        let mut coverage = CoverageDocument {
            compared: comparison.compared,
            passes_already: comparison.passes_already,
            broken_already: comparison.broken_already,
            packets_not_simulated: comparison.not_simulated,
            packets_of_other_interfaces: comparison.elsewhere,
            connections_beyond_limit: comparison.beyond,
            ..coverage
        };
        coverage.notes = coverage.notes();
        let connections = |list: &[Connection]| list.iter().map(ConnectionDocument::new).collect();
        let unused = comparison
            .unused
            .iter()
            .map(|(name, rule)| UnusedRule { name: RuleDocument::new(name), rule: rule.clone() });
        Self {
            schema_version: SCHEMA_VERSION,
            breaks: connections(&comparison.breaks),
            passes: connections(&comparison.passes),
            untracked,
            unused_rules: (!coverage.is_filtered).then(|| unused.collect()),
            coverage,
        }
    }
}

impl CoverageDocument {
    /// What may be missing, in words.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.is_filtered {
            notes.push(
                "only what matches the filters was compared: which proposed rules allow nothing is not told".to_owned(),
            );
        }
        match &self.journal {
            Some(journal) => {
                match &journal.oldest {
                    None => notes.push(
                        "the journal is empty: no dropped packet is known (`secgroup serve` records them)"
                            .to_owned(),
                    ),
                    Some(oldest) if !journal.covers_window => notes.push(format!(
                        "the journal begins at {oldest}, later than {}: earlier drops are not known",
                        self.since
                    )),
                    Some(_) => {}
                }
                if journal.lost > 0 {
                    notes.push(format!(
                        "{} of {} dropped packets are in no record: their connections may be missing",
                        journal.lost, journal.seen
                    ));
                }
                if journal.is_partial {
                    notes.push("records may be missing; how many is not known".to_owned());
                }
            }
            None => {
                notes.push("the journal was not read: dropped packets are not known".to_owned());
            }
        }
        match self.live_flows {
            Some(_) => notes.push(
                "connections that have ended, and untracked traffic, are in no flow table: only flow logs and \
                 captures have them"
                    .to_owned(),
            ),
            None => notes.push("live flows were not read".to_owned()),
        }
        if let Some(logs) = &self.flow_logs
            && logs.skipped > 0
        {
            let skipped = logs.skipped;
            notes.push(format!("{skipped} intervals of flow logs have packets in no record"));
        }
        notes.extend(self.flow_logs.iter().flat_map(|logs| logs.lacking.texts()));
        if let Some(logs) = &self.flow_logs
            && logs.without_icmp_type > 0
        {
            let count = logs.without_icmp_type;
            notes.push(format!(
                "{count} records of ICMP in flow logs have no type, and are not compared"
            ));
        }
        if let Some(logs) = &self.flow_logs
            && logs.without_direction > 0
        {
            let count = logs.without_direction;
            notes.push(format!(
                "{count} of {} records of flow logs are not compared: their direction cannot be told, as they have no \
                 flow-direction and their addresses are not those of the interface",
                logs.records
            ));
        }
        if self.connections_beyond_limit > 0 {
            let beyond = self.connections_beyond_limit;
            notes.push(format!("{beyond} more connections were not compared"));
        }
        notes
    }
}

impl ConnectionDocument {
    fn new(connection: &Connection) -> Self {
        let probe = connection.probe;
        let has_ports = matches!(probe.protocol, protocol::TCP | protocol::UDP);
        let is_icmp = matches!(probe.protocol, protocol::ICMP | protocol::ICMPV6);
        let [kind, code] = probe.port.to_be_bytes();
        Self {
            network_interface_id: connection.interface.clone(),
            device: connection.device.clone(),
            netns: connection.netns.clone(),
            direction: probe.direction.name(),
            protocol: probe.protocol,
            source: connection.source.to_string(),
            destination: connection.destination.to_string(),
            port: has_ports.then_some(probe.port),
            service: services::name_of_port(probe.protocol, probe.port),
            icmp_type: is_icmp.then_some(kind),
            icmp_code: is_icmp.then_some(code),
            seen_in: connection.seen_in.name(),
            connections: connection.connections,
            records: connection.records,
            packets: connection.packets,
            bytes: connection.bytes,
            first: connection.first.map(rfc3339),
            last: connection.last.map(rfc3339),
            rule: connection.rule.as_ref().map(RuleDocument::new),
            nearest_miss: connection.nearest_miss.as_ref().map(MissDocument::new),
            denied_by: connection.denied_by.as_ref().map(DenialDocument::new),
            is_cut: connection.is_cut,
        }
    }
}

impl Source {
    /// The word in documents and lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Journal => "journal",
            Self::FlowLog => "flow-log",
            Self::Capture => "capture",
        }
    }
}
