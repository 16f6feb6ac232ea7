use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::Table;

use super::*;
use crate::config::{Config, Paths};
use crate::model::{FlowLogSettings, Logged, RecordFiles};
use crate::observe::flow_logs::field::Format;
use crate::observe::flow_logs::status::Statuses;
use crate::store::Store;

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
        table: Table::Tcp,
        is_v6: false,
        entries: 0,
        capacity: 1,
        memory: None,
    };
    let rule = RuleCount {
        number: 1,
        group: "g".to_owned(),
        rule: "r".to_owned(),
        count: Some(Counter::default()),
        is_covered: true,
        hits: Some(RuleHits { first: Some(1000), last: Some(2000), ..RuleHits::default() }),
    };
    let records = Records {
        self_test: Some(1000),
        accounts: vec![RecordAccount {
            interface: "eth0".to_owned(),
            verdict: "drop",
            ..RecordAccount::default()
        }],
        journal: Some(Journal { bytes: 1, oldest: Some(0) }),
        ..Records::default()
    };
    let labels = ["acl-1", "ingress", "100", "deny"].map(str::to_owned);
    let entry = EntryCount { labels, count: Counter::default() };
    let labels = ["pl-1", "eth0"].map(str::to_owned);
    let block = BlockCount { labels, count: Counter::default() };
    let stored = Stored {
        label: "eth0".to_owned(),
        mode: "enforce",
        acl: "acl-1".to_owned(),
        kernel: Some(InKernel { hook: "tcx", is_enforcing: true, has_device: true, generation: 0 }),
        last: Some(LastReconcile { time: 0, succeeded: true }),
    };
    Reading {
        interfaces: vec![interface],
        tables: vec![table],
        rules: vec![rule],
        entries: vec![entry],
        blocks: vec![block],
        flow_logs: vec![Delivered { id: "fl-1".to_owned(), status: Status::default() }],
        stored: vec![stored],
        records: Some(records),
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
    let families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
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

#[test]
fn what_became_of_the_records_of_a_flow_log_is_told_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths {
        state_dir: dir.path().join("state"),
        pin_dir: dir.path().join("pins"),
        config: None,
    };
    let settings = |format: &str| FlowLogSettings {
        traffic: "ALL".into(),
        destination_type: "s3".into(),
        destination: Some(format!("arn:aws:s3:::bucket/{format}")),
        log_group: None,
        permission: None,
        cross_account_role: None,
        format: Format::default().to_string(),
        interval: 60,
        files: Some(RecordFiles { format: format.into(), is_hive: false, is_per_hour: false }),
        tag_fields: Vec::new(),
    };
    let mut store = Store::open(&paths.state_dir).unwrap();
    let mut change = store.begin().unwrap();
    let vpc = change.model().vpcs.keys().next().unwrap().clone();
    let mut create = |format: &str| {
        let resource = Logged::Vpc(vpc.clone());
        change.create_flow_log(resource, settings(format), Default::default()).unwrap().to_string()
    };
    let [log, other] = ["plain-text", "parquet"].map(&mut create);
    change.commit().unwrap();
    let told = |log: &str| {
        let open = || Control::open_read_only(&paths, Config::default());
        let text = scrape(open, &Sources::new(false)).unwrap().text;
        ["failed", "records_delivered_total", "records_lost_total"].map(|name| {
            let series = format!("secgroup_flow_log_{name}{{flow_log=\"{log}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap_or_else(|| panic!("{series}: {text}")).parse::<u64>().unwrap()
        })
    };
    // Before the first interval; one that cannot be delivered has failed already.
    assert_eq!((told(&log), told(&other)), ([0, 0, 0], [1, 0, 0]));
    let mut statuses = Statuses::default();
    let full = Some("No space left on device".to_owned());
    let status = Status { error: full, delivered: 7, failed: 2, ..Status::default() };
    statuses.logs.insert(log.clone(), status);
    statuses.write(&paths.state_dir).unwrap();
    assert_eq!(told(&log), [1, 7, 2]);
    statuses.logs.get_mut(&log).unwrap().error = None;
    statuses.write(&paths.state_dir).unwrap();
    assert_eq!(told(&log), [0, 7, 2]);
}

#[test]
fn what_the_kernel_does_is_left_out_where_it_cannot_be_read() {
    let mut reading = sample();
    reading.stored[0].kernel = None;
    reading.tables.clear();
    let text = encoded(reading).unwrap();
    for name in
        ["enforcing", "device_present", "policy_generation", "conntrack_allowance_available"]
    {
        assert!(!text.contains(&format!("\nsecgroup_{name}{{")), "{text}");
    }
    let info =
        "secgroup_interface_info{interface=\"eth0\",mode=\"enforce\",hook=\"\",acl=\"acl-1\"} 1";
    assert!(text.contains(info), "{text}");
}
