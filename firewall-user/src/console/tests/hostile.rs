//! Names that are markup, or end an attribute, an event or a link.

use super::*;

/// A name that begins a script, an attribute and an event where it is not escaped.
pub(in crate::console) const NAME: &str = "<script>a(1)</script><i>\"onx='1'&\u{2028}";

/// The same in a query.
const ENCODED: &str = "%3Cscript%3Ea(1)%3C/script%3E%3Ci%3E%22onx%3D%271%27%26%E2%80%A8";

/// That a page has the name as text, and no element or attribute by it.
pub(in crate::console) fn assert_escaped(page: &str, what: &str) {
    assert_eq!(page.matches("<script").count(), 1, "{what}: {page}");
    for broken in ["<i>", "\"onx", "='1'", "</script><"] {
        assert!(!page.contains(broken), "{what}: {broken} in {page}");
    }
    assert!(page.contains("&#60;script&#62;a(1)&#60;/script&#62;"), "{what}: {page}");
}

/// A record in which everything that has a name has this one.
fn record() -> PacketRecord {
    let name = || NAME.to_owned();
    let rule = RuleName {
        security_group_rule_id: "sgr-0123456789abcdef0".to_owned(),
        group_id: "sg-0123456789abcdef0".to_owned(),
        group_name: name(),
    };
    PacketRecord {
        device: name(),
        netns: Some(name()),
        nearest_miss: Some(NearestMiss {
            rule,
            field: "address".to_owned(),
            rule_value: format!("group {NAME}"),
            packet_value: "192.0.2.7".to_owned(),
        }),
        ..PacketRecord::sample(1000, 1)
    }
}

#[test]
fn names_of_devices_and_groups_are_text() {
    let host = Host::new();
    host.store("a &lt;i&gt; &amp;", NAME, "none");
    host.record([record(), PacketRecord { entry: Some(NAME.to_owned()), ..record() }]);
    for path in ["/drops", "/explain"] {
        assert_escaped(&host.get(path).body, path);
    }
    let rules = host.get("/rules").body;
    assert!(rules.contains("a &#38;lt;i&#38;gt; &#38;amp;"), "{rules}");
    assert!(rules.contains("why &#38; what"), "{rules}");
    // As JSON it is the name itself, in a type that no browser shows as a page.
    let lines = host.get("/drops.json");
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let first: PacketRecord = serde_json::from_str(lines.body.lines().next().unwrap()).unwrap();
    assert_eq!(first.device, NAME);
}

#[test]
fn words_of_a_request_are_text_in_its_answer() {
    let host = Host::new();
    host.store("web", "eth0", "none");
    for path in [
        "/drops?from=",
        "/drops?interface=",
        "/drops?group=",
        "/drops?since=",
        "/drops?reason=",
        "/flows?from=",
        "/flows?group=",
        "/flows?state=",
        "/explain?interface=",
        "/explain?source=",
        "/explain?tcp-flags=",
        "/explain?from-drop=",
    ] {
        let answer = host.get(&format!("{path}{ENCODED}"));
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
        assert_escaped(&answer.body, path);
    }
    // What has no page around it is no page.
    for path in ["/rules?unused=", "/rules?start=", "/flows?sort=", "/drops.events?from="] {
        let answer = host.get(&format!("{path}{ENCODED}"));
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8", "{path}");
    }
    for path in ["/drops?", "/flows?", "/explain?"] {
        let answer = host.get(&format!("{path}{ENCODED}=1"));
        assert_eq!(answer.status, 400, "{path}");
        assert!(!answer.body.contains("<i>"), "{path}: {}", answer.body);
    }
}

#[test]
fn a_name_ends_no_event() {
    let host = Host::new();
    let device = "eth0\n\nevent: account\ndata: {}\n\n".to_owned();
    host.record([PacketRecord { device, ..record() }]);
    let text = stream::read(&host, "/drops.events?after=0", &[], "event: record");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("event: ")).collect();
    assert_eq!(lines, ["event: record"], "{text}");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["record"]["Netns"], NAME);
    assert_eq!(data["row"]["explain"], "explain?from-drop=1");
}
