//! docs/metrics.md

use firewall_user::telemetry::metrics::METRICS;

use crate::markdown::{row, rule, sentence};

pub(crate) fn page() -> String {
    let mut text = format!(
        "# Metrics\n\n\
         `secgroup serve` serves these metrics over HTTP in the text format of Prometheus, by default at\n\
         `http://127.0.0.1:9911/metrics`; `secgroup metrics` prints them once, for the textfile collector of\n\
         node_exporter. Counters of an interface start at 0 when it is attached. A metric that the kernel counts \
         has\nno samples while nothing is attached; one that the store tells has none while it cannot be read.\n\n\
         Alerts:\n\n\
         - `secgroup_enforcing == 0 and secgroup_device_present == 1`: packets of a stored interface pass without \
         a\n  decision. Without its device an interface has no packets.\n\
         - `secgroup_store_readable == 0` or `secgroup_tables_readable == 0`: nothing is known.\n\
         - `up == 0`: `secgroup serve` does not run, and nothing is attached that appears.\n\n\
         Readings are shared: a client gets one that is at most a second old, or four times as old as it took. At \
         most 32\nconnections are open; a new one ends the oldest that has not sent its request. A request has \
         to arrive within 5 s.\n\n{}\n",
        crate::made_from("the declaration in `firewall-user/src/telemetry/metrics/declaration.rs`")
    );
    text += &row(["metric", "type", "labels", "meaning"]);
    text += &rule(4);
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        text += &row([
            format!("`{}`", metric.full_name()),
            metric.kind.name().to_owned(),
            labels.join(", "),
            sentence(metric.help),
        ]);
    }
    text += "\n## Labels\n\n";
    text += &row(["label", "values"]);
    text += &rule(2);
    for (label, values) in LABELS {
        text += &row([format!("`{label}`"), (*values).to_owned()]);
    }
    let declared = METRICS.iter().flat_map(|metric| metric.labels);
    for label in declared {
        assert!(LABELS.iter().any(|(name, _)| name == label), "{label}: no meaning");
    }
    text
}

const LABELS: &[(&str, &str)] = &[
    ("interface", "Network device; `NAMESPACE/DEVICE` for one in a named network namespace."),
    ("direction", "`ingress`: toward the protected end; `egress`: from it."),
    (
        "verdict",
        "`pass` or `drop`. In audit mode, packets pass although they are counted as `drop`.",
    ),
    ("reason", "One of [reasons.md](reasons.md)."),
    ("table", "Flow table: `new`; or `udp` or `tcp`, of proven flows."),
    ("family", "`ipv4` or `ipv6`."),
    ("mode", "`enforce` or `audit`."),
    ("hook", "`xdp`, `xdp-generic`, `tcx`, `clsact`; `none`: the program is not attached."),
    ("group", "Id of a group."),
    ("rule", "Id of a rule."),
    ("acl", "Id of a network ACL."),
    ("entry", "Number of an entry of a network ACL, by which it is evaluated."),
    ("action", "`allow` or `deny`."),
    ("prefix_list", "Id of a prefix list."),
    (
        "kind",
        "Of what ended: `rule`, `acl-entry` or `block`. Of blocks: `network` or `prefix-list`.",
    ),
    ("flow_log", "Id of a flow log."),
    ("version", "Version of the program."),
    ("abi", "Version of the layout of the pinned maps."),
];
