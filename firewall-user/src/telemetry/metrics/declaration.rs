//! Every metric: the encoder and the reference page read this.

/// A metric, without the prefix `secgroup_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    name: &'static str,
    /// What it counts or measures, in one sentence.
    pub help: &'static str,
    /// Type.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows until its interface is detached, or its rule or entry is deleted.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Prefix of the names.
pub(super) const PREFIX: &str = "secgroup";

impl Kind {
    /// The word in `# TYPE` lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

impl Metric {
    /// The name of its samples.
    #[must_use]
    pub fn full_name(&self) -> String {
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{PREFIX}_{}{suffix}", self.name)
    }

    /// The name as the encoder takes it, which adds prefix and suffix.
    pub(super) const fn bare_name(&self) -> &'static str {
        self.name
    }
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            labels: &[$($label),*],
        };)*

        /// Every metric, in the order of a scrape.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    ENFORCING = Gauge "enforcing" ["interface"]
        "1 if the programs of the interface run and its policy is active, also in audit mode; else 0, and its packets pass without a decision; none if that cannot be read";
    DEVICE_PRESENT = Gauge "device_present" ["interface"]
        "1 if the device of the interface exists, else 0, and it has no packets";
    INTERFACE_INFO = Gauge "interface_info" ["interface", "mode", "hook", "acl"]
        "Mode of the interface, hook of its program for received packets (none, or empty if that cannot be read), and its network ACL; always 1";
    POLICY_GENERATION = Gauge "policy_generation" ["interface"]
        "Number of the active policy: equal policies have equal numbers; 0 without one";
    RECONCILE_TIMESTAMP = Gauge "reconcile_timestamp_seconds" ["interface"]
        "When the interface was last attached by reconcile, a rollback or serve, in seconds since 1970";
    RECONCILE_SUCCESS = Gauge "reconcile_success" ["interface"]
        "1 if that succeeded, else 0";
    PENDING_CHANGE = Gauge "pending_change" []
        "1 while a change waits for secgroup confirm, else 0";
    PENDING_DEADLINE = Gauge "pending_change_deadline_timestamp_seconds" []
        "When that change is rolled back, in seconds since 1970; 0 without one";
    STORE_READABLE = Gauge "store_readable" []
        "1 if the store can be read, else 0, and nothing is known about interfaces";
    TABLES_READABLE = Gauge "tables_readable" []
        "1 if tables and programs in the kernel can be read, or nothing is attached; else 0, and nothing is known of what is enforced";
    PACKETS = Counter "packets" ["interface", "direction", "verdict"]
        "Packets, by verdict";
    BYTES = Counter "bytes" ["interface", "direction", "verdict"]
        "Bytes of packets, by verdict";
    DROPS = Counter "drops" ["interface", "direction", "reason"]
        "Dropped packets, by reason";
    DROP_BYTES = Counter "drop_bytes" ["interface", "direction", "reason"]
        "Bytes of dropped packets, by reason";
    PASSES = Counter "passes" ["interface", "direction", "reason"]
        "Passed packets, by reason";
    FLOWS = Gauge "flows" ["interface", "table", "family"]
        "Entries in the flow tables; expired flows count until they are removed";
    FLOWS_CAPACITY = Gauge "flows_capacity" ["interface", "table", "family"]
        "Entries that fit into the flow tables";
    FLOWS_UNPROMOTED = Counter "flows_unpromoted" ["interface"]
        "Times that a TCP flow could not move to the table of proven flows because it was full";
    FLOWS_SOURCE_LIMITED = Counter "flows_source_limited" ["interface"]
        "Times that a TCP flow could not move there because its source had as many as --max-flows-per-source allows";
    AUDITED_PACKETS = Counter "audited_packets" ["interface"]
        "Packets that audit mode passed and counted as dropped";
    FLOWS_OPENED = Counter "flows_opened" ["interface"]
        "Flows that were opened";
    FLOWS_PROMOTED = Counter "flows_promoted" ["interface"]
        "Flows that moved to a table of proven flows; the one of TCP evicts none";
    FLOWS_EVICTED = Counter "flows_evicted" ["interface"]
        "Flows that were evicted by newer ones because the table of new flows was full";
    ALLOWANCE_AVAILABLE = Gauge "conntrack_allowance_available" ["interface"]
        "Proven TCP connections that the interface can still track, in the family with fewer left";
    ALLOWANCE_EXCEEDED = Counter "conntrack_allowance_exceeded" ["interface"]
        "Times that a flow table was full: new flows evicted, TCP flows not promoted, and packets dropped";
    RULE_PACKETS = Counter "rule_packets" ["group", "rule"]
        "Packets that a rule allowed and that belonged to no flow";
    RULE_BYTES = Counter "rule_bytes" ["group", "rule"]
        "Bytes of packets that a rule allowed and that belonged to no flow";
    RULE_FLOWS = Counter "rule_flows" ["group", "rule"]
        "Flows that a rule opened, as `secgroup rule list --hits` shows them";
    RULE_FIRST_HIT = Gauge "rule_first_hit_timestamp_seconds" ["group", "rule"]
        "When the first packet that a rule allowed passed, in seconds since 1970; absent for a rule that was never used";
    RULE_LAST_HIT = Gauge "rule_last_hit_timestamp_seconds" ["group", "rule"]
        "When the last packet of a rule or of its flows passed, in seconds since 1970; absent for a rule that was never used";
    RULE_COVERED = Gauge "rule_covered" ["group", "rule"]
        "1 if other rules of its group allow all traffic of a rule, which then counts no packets or fewer; else 0";
    ACL_PACKETS = Counter "acl_packets" ["acl", "direction", "entry", "action"]
        "Packets that an entry of a network ACL decided: each that it denied; of those that it allowed, each that was looked up";
    ACL_BYTES = Counter "acl_bytes" ["acl", "direction", "entry", "action"]
        "Bytes of packets that an entry of a network ACL decided";
    BLOCKS = Gauge "blocks" ["kind"]
        "Blocks in force, of networks and of prefix lists";
    BLOCK_PACKETS = Counter "block_packets" ["prefix_list", "interface"]
        "Packets that the block of a prefix list dropped; interface is empty for a block of every one. Blocks of networks are in secgroup_drops_total with the reason blocked";
    BLOCK_BYTES = Counter "block_bytes" ["prefix_list", "interface"]
        "Bytes of packets that the block of a prefix list dropped";
    ENDED = Counter "ended" ["kind"]
        "Rules, entries of network ACLs and blocks that ended by themselves and were removed";
    RECORDS_COLLECTING = Gauge "records_collecting" []
        "1 if this process collects records of dropped packets, else 0; absent if it is not to";
    RECORDS_FAILING = Gauge "records_failing" []
        "1 if records cannot be written to the journal now, as on a full disk or where its directory is refused, else 0";
    RECORDS_SEEN = Counter "records_seen" ["interface", "verdict"]
        "Packets that were to be recorded: the sum of kept, aggregated, and lost, and a second later of those that are still being aggregated";
    RECORDS_KEPT = Counter "records_kept" ["interface", "verdict"]
        "Records, each of a packet and of those that were aggregated with it";
    RECORDS_AGGREGATED = Counter "records_aggregated" ["interface", "verdict"]
        "Packets that the record of an earlier packet of the same tuple and reason counts";
    RECORDS_LOST = Counter "records_lost" ["interface", "verdict"]
        "Packets that are in no record: there were too many different ones, or the record could not be written";
    RECORDS_UNWRITTEN = Counter "records_unwritten" []
        "Records that could not be written to the journal";
    RECORDS_SELF_TEST = Gauge "records_self_test_timestamp_seconds" []
        "When the record that tests the way from the kernel to the journal last arrived, in seconds since 1970";
    JOURNAL_BYTES = Gauge "journal_bytes" []
        "Size of the journal of records";
    JOURNAL_OLDEST = Gauge "journal_oldest_timestamp_seconds" []
        "Time of the oldest entry in the journal of records, in seconds since 1970";
    FLOW_LOG_FAILED = Gauge "flow_log_failed" ["flow_log"]
        "1 if the last records of a flow log could not be delivered, else 0";
    FLOW_LOG_DELIVERED = Counter "flow_log_records_delivered" ["flow_log"]
        "Records of a flow log that were delivered, as `secgroup flow-log list` shows them";
    FLOW_LOG_LOST = Counter "flow_log_records_lost" ["flow_log"]
        "Records of a flow log that could not be delivered; they are not delivered later";
    STORE_GENERATION = Gauge "store_generation" []
        "Number of changes to the store";
    PANIC = Gauge "panic" []
        "1 in emergency mode, in which only traffic of the management networks passes, else 0";
    BUILD_INFO = Gauge "build_info" ["version", "abi"]
        "Version of the program and of its maps; always 1";
}
