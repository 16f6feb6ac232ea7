//! The memory of rules, as `status` reports it.

use aya::util::KernelVersion;
use secgroup_tests::{Pair, Secgroup};
use serde_json::Value;

fn interface_and_counters(secgroup: &Secgroup<'_>) -> (Value, Value) {
    let status = secgroup.json("status");
    (status["NetworkInterfaces"][0].clone(), status["RuleCounters"].clone())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn status_reports_the_memory_of_rules() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let (interface, counters) = interface_and_counters(&secgroup);
    assert_eq!((number(&interface["Rules"]), number(&counters["Entries"])), (2, 2));
    assert_eq!(counters["Capacity"], 4096);
    if KernelVersion::current().unwrap() < KernelVersion::new(6, 4, 0) {
        // Older kernels report the memory of a full table.
        for value in [
            &interface["PolicyMemoryBytes"],
            &interface["BytesPerRule"],
            &counters["MemoryBytes"],
            &counters["BytesPerEntry"],
        ] {
            assert!(value.is_null(), "{value}");
        }
        let text = secgroup.ok("status");
        assert!(text.lines().any(|line| line == "rule counters: 2 of 4096"), "{text}");
        return;
    }
    let each = number(&counters["BytesPerEntry"]);
    let [policy, memory] = [&interface["PolicyMemoryBytes"], &counters["MemoryBytes"]].map(number);
    assert_eq!(number(&interface["BytesPerRule"]), policy / 2 + each);

    let networks: String = (0..50).map(|n| format!(" --cidr 192.0.2.{n}/32")).collect();
    secgroup.ok(&format!("rule add web ingress --protocol tcp --port 80{networks}"));
    let (interface, counters) = interface_and_counters(&secgroup);
    assert_eq!((number(&interface["Rules"]), number(&counters["Entries"])), (52, 52));
    let larger = number(&interface["PolicyMemoryBytes"]);
    assert!(larger > policy, "{larger} is not more than {policy}");
    assert_eq!(number(&interface["BytesPerRule"]), larger / 52 + each);
    // The reported memory of a counter is what the kernel counts for it.
    assert_eq!(number(&counters["MemoryBytes"]), memory + 50 * each);

    let text = secgroup.ok("status");
    let kibibytes = number(&counters["MemoryBytes"]).div_ceil(1024);
    let line = format!("rule counters: 52 of 4096; {each} bytes each, {kibibytes} KiB in all");
    assert!(text.lines().any(|shown| shown == line), "{text}");
    assert!(text.lines().next().unwrap().contains("BYTES/RULE"), "{text}");
    let eth0 = text.lines().find(|line| line.starts_with("eth0 ")).unwrap();
    assert!(eth0.contains(&format!(" {} ", larger / 52 + each)), "{eth0}");
}
