//! Staged rules, and rules that others make unnecessary.

use firewall_user::observe::journal::{self, Writer};
use serde_json::Value;

use crate::host::{Host, tcp};
use crate::simulate::{drop_of, now};

fn words(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// A host with group web, and the id of its rule for port 80.
fn host() -> (Host, String) {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let http = host.id(&[&["rule", "add"], &tcp("http", "10.0.0.0/8")[..]].concat());
    (host, http)
}

fn stage(host: &Host, port: &str) -> String {
    let soon = ["--description", "soon"];
    host.id(&[&["rule", "stage"], &tcp(port, "192.0.2.0/24")[..], &soon].concat())
}

#[test]
fn staged_rules_are_listed_beside_the_rules_and_enforced_with_their_ids() {
    let (host, http) = host();
    let plain = [host.ok(&["rule", "list"]), host.ok(&["export"]), host.ok(&["group", "list"])];
    let https = stage(&host, "https");
    let other = stage(&host, "8443");
    host.ok(&["rule", "stage-removal", "web", &http]);
    let listed = host.run(&["rule", "list"]);
    assert_eq!(listed.stderr, "secgroup: 3 staged changes are not in force: --staged lists them\n");
    let after = [listed.stdout, host.ok(&["export"]), host.ok(&["group", "list"])];
    assert_eq!(after, plain);
    let list: Value =
        serde_json::from_str(&host.ok(&["rule", "list", "web", "--staged", "--output", "json"]))
            .unwrap();
    let mut rows: Vec<_> = list["StagedRules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["SecurityGroupRuleId"].as_str().unwrap(),
                one["Change"].as_str().unwrap(),
                one["Rule"].as_str().unwrap(),
            )
        })
        .collect();
    rows.sort_by_key(|(_, change, rule)| (*change, *rule));
    assert_eq!(
        rows,
        [
            (https.as_str(), "add", "ingress tcp 443 from 192.0.2.0/24"),
            (other.as_str(), "add", "ingress tcp 8443 from 192.0.2.0/24"),
            (http.as_str(), "remove", "ingress tcp 80 from 10.0.0.0/8"),
        ]
    );
    host.ok(&["rule", "unstage", "web", &other]);
    host.ok(&["rule", "enforce", "web", &https, &http]);
    let table = host.ok(&["rule", "list", "web"]);
    let rules: Vec<_> =
        words(&table).iter().skip(1).map(|row| (row[0].to_owned(), row[4].to_owned())).collect();
    assert_eq!(rules.len(), 3, "{table}");
    assert_eq!(rules[0], (https.clone(), "443".to_owned()));
    assert!(rules.iter().all(|(id, _)| *id != http), "{table}");
    assert_eq!(words(&host.ok(&["rule", "list", "--staged"])).len(), 1);
}

#[test]
fn packets_that_a_staged_rule_would_let_pass_are_counted_from_the_journal() {
    let (host, _) = host();
    let https = stage(&host, "https");
    host.attach("eth0", None, "web");
    let dir = journal::directory(&host.state_dir());
    let mut writer = Writer::open(&dir, journal::MIN_SIZE).unwrap();
    for (source, port, ago) in [
        ("192.0.2.9", 443, -1000),
        ("192.0.2.10", 443, -1000),
        ("192.0.2.9", 444, -1000),
        ("203.0.113.9", 443, -1000),
        // Before the rule was staged.
        ("192.0.2.9", 443, 60_000),
    ] {
        writer.append(drop_of(&host, source, port, now() - ago)).unwrap();
    }
    drop(writer);
    let list: Value =
        serde_json::from_str(&host.ok(&["rule", "list", "--staged", "--output", "json"])).unwrap();
    let one = &list["StagedRules"][0];
    assert_eq!(one["SecurityGroupRuleId"], https.as_str());
    assert_eq!((&one["WouldPassPackets"], &one["WouldPassBytes"]), (&6.into(), &360.into()));
    let table = host.ok(&["rule", "list", "--staged"]);
    assert!(table.contains("pass 6 packets"), "{table}");
}

#[test]
fn what_is_wrong_with_a_staged_change_is_said() {
    let (host, http) = host();
    let https = stage(&host, "443");
    for (args, code, stderr) in [
        (
            vec!["rule", "enforce", "web", http.as_str()],
            3,
            format!(
                "error: enforce staged rules of group web: group web has no staged change of rule {http}\n\
                     hint: `secgroup rule list web --staged` shows its staged changes\n"
            ),
        ),
        (
            [&["rule", "stage"], &tcp("443", "192.0.2.0/24")[..]].concat(),
            1,
            format!(
                "error: stage rule of group web: group web has staged rule {https}: ingress tcp 443 from 192.0.2.0/24\n\
                     hint: `secgroup rule enforce web {https}` makes it a rule, `secgroup rule unstage web {https}` drops it\n"
            ),
        ),
    ] {
        let done = host.run(&args);
        assert_eq!((done.stderr, done.code), (stderr, code), "{args:?}");
    }
    host.ok(&["rule", "stage-removal", "web", &http]);
    let done = host.run(&["rule", "stage-removal", "web", &http]);
    assert_eq!(
        (done.code, done.stderr),
        (
            1,
            format!(
                "error: stage removal of rules of group web: group web has the removal of rule {http} staged already\n\
                 hint: `secgroup rule enforce web {http}` removes the rule, `secgroup rule unstage web {http}` keeps it\n"
            )
        )
    );
    let done = host.run(&["rule", "list"]);
    assert_eq!(done.stderr, "secgroup: 2 staged changes are not in force: --staged lists them\n");
}

#[test]
fn rules_that_others_make_unnecessary_are_named_with_these() {
    let (host, http) = host();
    let wide = host.id(&[&["rule", "add"], &tcp("1-1023", "10.0.0.0/8")[..]].concat());
    let table = host.ok(&["rule", "redundant", "web"]);
    let rows = words(&table);
    assert_eq!(rows.len(), 2, "{table}");
    assert_eq!(rows[1].first(), Some(&http.as_str()));
    assert_eq!(rows[1].last(), Some(&wide.as_str()));
    let json: Value =
        serde_json::from_str(&host.ok(&["rule", "redundant", "--output", "json"])).unwrap();
    let one = &json["RedundantRules"][0];
    assert_eq!(
        (one["Kind"].as_str(), one["CoveredBy"][0].as_str()),
        (Some("shadowed"), Some(wide.as_str()))
    );
    assert_eq!(one["IsOfPresentMembers"], false);
    host.ok(&["rule", "remove", "web", &http]);
    assert_eq!(words(&host.ok(&["rule", "redundant"])).len(), 1);
}

#[test]
fn all_changes_of_a_document_are_staged_and_enforced_by_group() {
    let (host, http) = host();
    let mut document: Value = serde_json::from_str(&host.ok(&["export"])).unwrap();
    let groups = document["SecurityGroups"].as_array_mut().unwrap();
    let web = groups.iter_mut().find(|group| group["GroupName"] == "web").unwrap();
    web["IpPermissions"][0]["FromPort"] = 443.into();
    web["IpPermissions"][0]["ToPort"] = 443.into();
    let file = host.file("groups.json", &document.to_string());
    let before = host.state().0;
    // A second time it takes the place of the first.
    host.ok(&["group", "stage", "web", &file]);
    host.ok(&["group", "stage", "web", &file]);
    let model = host.state().0;
    assert_eq!((model.groups.clone(), model.staged.len()), (before.groups, 2));
    assert!(model.staged.keys().any(|id| id.as_str() == http));
    host.ok(&["group", "unstage", "web"]);
    assert!(host.state().0.staged.is_empty());
    host.ok(&["group", "stage", "web", &file]);
    host.ok(&["group", "enforce", "web"]);
    assert_eq!(host.ok(&["diff", &file]), "");
    assert!(host.state().0.staged.is_empty());
}
