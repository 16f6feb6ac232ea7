//! Status, type and headers of every answer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const PAGE: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

#[test]
fn every_path_has_its_status_its_type_and_the_headers_of_all() {
    let host = Host::new();
    host.record([PacketRecord::sample(1000, 1)]);
    let long = format!("/drops?from={}", "1".repeat(4096));
    for (path, status, kind) in [
        ("/", 200, PAGE),
        ("/status", 200, PAGE),
        ("/status.json", 200, JSON),
        ("/stats", 200, JSON),
        ("/stats.json", 200, JSON),
        ("/drops", 200, PAGE),
        ("/drops.json", 200, LINES),
        ("/drops.events", 200, "text/event-stream"),
        ("/flows", 200, PAGE),
        ("/flows.json", 200, JSON),
        ("/rules", 200, PAGE),
        ("/rules?unused=true", 200, PAGE),
        ("/rules.json", 200, JSON),
        ("/rules.json?hits=true", 200, JSON),
        ("/explain", 200, PAGE),
        ("/static/console.css", 200, "text/css; charset=utf-8"),
        ("/static/console.js", 200, "text/javascript; charset=utf-8"),
        ("/static/icon.svg", 200, "image/svg+xml"),
        // Fields that a form sends and nobody filled in.
        ("/drops?from=&port=&since=&not=", 200, PAGE),
        ("/flows?from=&state=", 200, PAGE),
        ("/explain?interface=&source=", 200, PAGE),
        // What there is not.
        ("/nowhere", 404, TEXT),
        ("/nowhere.json", 404, JSON),
        ("/drops/", 404, TEXT),
        ("//drops", 404, TEXT),
        ("/static/", 404, TEXT),
        ("/static/../static/console.css", 404, TEXT),
        ("/static/console.css.json", 404, JSON),
        ("/favicon.ico", 404, TEXT),
        ("/explain?from-drop=99", 404, PAGE),
        ("/explain.json?from-drop=99", 404, JSON),
        // What cannot be understood.
        ("/drops?colour=red", 400, PAGE),
        ("/drops.json?colour=red", 400, JSON),
        ("/drops.events?colour=red", 400, TEXT),
        ("/drops?since=yesterday", 400, PAGE),
        ("/drops.json?before=x", 400, JSON),
        ("/drops.json?after=-1", 400, JSON),
        ("/drops?group=nobody", 400, PAGE),
        ("/drops?not=true", 400, PAGE),
        ("/drops.json?state=established", 400, JSON),
        ("/drops.json?reason=established", 400, JSON),
        ("/flows?sort=colour", 400, TEXT),
        ("/flows.json?start=x", 400, JSON),
        ("/flows.json?state=x", 400, JSON),
        ("/rules?colour=red", 400, TEXT),
        ("/rules?unused=perhaps", 400, TEXT),
        ("/rules.json?start=x", 400, JSON),
        ("/explain?colour=red", 400, PAGE),
        ("/explain?from-drop=x", 400, PAGE),
        ("/explain?interface=eth9", 400, PAGE),
        ("/explain.json", 400, JSON),
        ("/explain.json?interface=eth9", 400, JSON),
        ("/drops?from=%zz", 400, TEXT),
        (&long, 400, TEXT),
    ] {
        let answer = host.get(path);
        let found = (answer.status.as_u16(), answer.header("content-type"));
        assert_eq!(found, (status, kind), "{path}: {}", answer.body);
        assert_secure(&answer, path);
        assert!(!answer.body.is_empty() || kind == LINES, "{path}");
        if kind == JSON {
            let _: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        }
        if status == 200 && kind == PAGE {
            assert!(answer.body.starts_with("<!doctype html>"), "{path}: {}", answer.body);
        }
    }
}

#[test]
fn nothing_but_reading_is_answered_by_any_path() {
    let host = Host::new();
    let methods =
        ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY", "PROPFIND"];
    for path in PATHS.iter().chain(&FILES).chain(&["/nowhere", "/rules.json?hits=true"]) {
        for method in methods {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = host.ask(&method, path, &[HOST]);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), "GET, HEAD", "{method} {path}");
            assert_secure(&answer, path);
        }
        let get = host.get(path);
        let head = host.ask(&Method::HEAD, path, &[HOST]);
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("allow"), "", "{path}");
    }
}

#[test]
fn no_path_is_answered_for_another_site() {
    let host = Host::new();
    for path in PATHS.iter().chain(&FILES) {
        for headers in [
            &[("host", "rebound.example.com")][..],
            &[],
            &[HOST, ("origin", "http://example.com")],
            &[HOST, ("sec-fetch-site", "cross-site")],
        ] {
            let answer = host.ask(&Method::GET, path, headers);
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert_secure(&answer, path);
            assert!(!answer.body.contains("<html") && answer.header("etag").is_empty(), "{path}");
        }
    }
}

#[test]
fn a_browser_that_has_a_file_is_not_sent_it_again() {
    let host = Host::new();
    let mut tags = Vec::new();
    for path in FILES {
        let tag = host.get(path).header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        let weak = format!("\"other\", W/{tag}");
        for (known, status) in [(&*tag, 304), (&weak, 304), ("*", 304), ("\"other\"", 200)] {
            let answer = host.ask(&Method::GET, path, &[HOST, ("if-none-match", known)]);
            assert_eq!(answer.status, status, "{path} {known}");
            assert_eq!(answer.body.is_empty(), status == 304, "{path} {known}");
            assert_eq!(answer.header("etag"), tag);
            assert_secure(&answer, path);
        }
        tags.push(tag);
    }
    tags.dedup();
    assert_eq!(tags.len(), FILES.len());
}

#[test]
fn accept_chooses_the_document_and_caches_are_told() {
    let host = Host::new();
    for path in ["/", "/drops?colour=red", "/flows", "/rules.json?hits=true", "/explain"] {
        let answer = host.ask(&Method::GET, path, &[HOST, ("accept", "application/json")]);
        assert_eq!(answer.header("content-type"), JSON, "{path}");
    }
    for path in ["/", "/flows", "/rules"] {
        assert_eq!(host.get(path).header("vary"), "Accept", "{path}");
    }
}

#[test]
fn records_of_drops_are_shown_in_their_window_and_no_others() {
    let host = Host::new();
    let now = i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
    )
    .unwrap();
    let of = |seconds: i64, verdict| PacketRecord {
        verdict,
        ..PacketRecord::sample(now - seconds * 1000, 1)
    };
    host.record([
        of(7200, Verdict::Drop),
        of(600, Verdict::WouldDrop),
        of(500, Verdict::Pass),
        of(400, Verdict::Drop),
        of(300, Verdict::Drop),
    ]);
    let ids = |query: &str| -> Vec<u64> {
        let lines = host.get(&format!("/drops.json{query}")).body;
        let read = lines.lines().map(|line| serde_json::from_str::<PacketRecord>(line).unwrap());
        read.map(|record| record.id).collect()
    };
    for (query, expected) in [
        ("", &[5, 4, 2, 1][..]),
        ("?before=4", &[2, 1]),
        ("?after=2", &[5, 4]),
        ("?before=5&after=1", &[4, 2]),
        ("?since=1h", &[5, 4, 2]),
        ("?port=443&not=true", &[]),
        ("?port=443&since=450s", &[5, 4]),
    ] {
        assert_eq!(ids(query), expected, "{query}");
    }
    let page = host.get("/drops?before=5").body;
    assert!(page.contains("3 records.") && page.contains(">Newest<"), "{page}");
    // Only the newest page has those that come.
    assert!(!page.contains("data-stream"), "{page}");
    assert!(host.get("/drops").body.contains("data-stream=\"drops.events?after=5\""));
}

#[test]
fn the_documents_of_rules_are_those_of_the_commands() {
    let host = Host::new();
    host.store("web", "eth0", "none");
    let document =
        |path| -> serde_json::Value { serde_json::from_str(&host.get(path).body).unwrap() };
    let rules = document("/rules.json");
    assert!(rules["SecurityGroupRules"].is_array(), "{rules}");
    let hits = document("/rules.json?hits=true");
    assert!(hits["Watched"].is_array() && hits["SecurityGroupRules"].is_null(), "{hits}");
    let of_web = hits["Rules"].as_array().unwrap().iter().find(|rule| rule["GroupName"] == "web");
    // It is not counted yet, so it is not unused either.
    assert!(of_web.unwrap()["CountedSince"].is_null(), "{hits}");
    let unused = host.get("/rules?unused=true").body;
    assert!(unused.contains("Every rule was used."), "{unused}");
}

#[test]
fn the_overview_and_the_drops_say_why_nothing_is_recorded() {
    let host = Host::new();
    let dir = journal::directory(&host.paths.state_dir);
    let told = |text: &str| {
        ["/", "/drops"].map(|path| {
            let answer = host.get(path);
            answer.body.contains("class=\"warnings\"") && answer.body.contains(text)
        })
    };
    assert_eq!(told("Nobody records dropped packets now; "), [true; 2]);
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    writer.tell_open(0, 0, 0, None);
    assert_eq!(told(""), [false; 2]);
    writer.tell_open(0, 0, 0, Some("the disk is full"));
    assert_eq!(told("Records of dropped packets cannot be written: the disk is full."), [true; 2]);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(host.get("/").body.contains("may be written by others (mode 0777)."));
    assert!(host.get("/drops").body.contains("may be written by others (mode 0777)"));
}
