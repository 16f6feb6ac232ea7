use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::Table;

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
