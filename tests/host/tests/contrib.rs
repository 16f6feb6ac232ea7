//! The files in `contrib` name only metrics and labels that exist.

use std::collections::BTreeSet;
use std::fs;

use firewall_user::telemetry::metrics::METRICS;
use secgroup_tests::root;
use serde_json::Value;

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];

/// A recording rule of the alerts: a colon is in no metric of a program.
const RECORDED: &str = "secgroup:drops:rate5m";

/// Every expression of the alerts and of the dashboard, with the place where it is.
fn expressions() -> Vec<(String, String)> {
    let alerts = read("contrib/prometheus/rules.yml");
    let mut found = Vec::new();
    let mut lines = alerts.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim().strip_prefix("expr:") else { continue };
        let mut expression = expression.trim().to_owned();
        if expression == "|" {
            let indent = |line: &str| line.len() - line.trim_start().len();
            let outer = indent(line);
            while let Some(next) = lines.next_if(|next| indent(next) > outer) {
                expression += next;
            }
        }
        found.push((format!("rules.yml: {expression}"), expression));
    }
    let dashboard: Value = serde_json::from_str(&read("contrib/grafana/secgroup.json"))
        .expect("the dashboard is JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression").to_owned();
            found.push((format!("secgroup.json: {}: {expression}", panel["title"]), expression));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(query) = variable["definition"].as_str() {
            // label_values(metric{…}, label)
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect(query);
            let expression = format!("sum by ({label}) ({metric})");
            found.push((format!("secgroup.json: {query}"), expression));
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

const fn is_of_name(one: char) -> bool {
    one.is_ascii_alphanumeric() || one == '_' || one == ':'
}

/// The metrics in an expression, each with the labels that its selector names.
fn selected(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find("secgroup") {
        let name_end = rest[at..].find(|one| !is_of_name(one)).map_or(rest.len(), |end| at + end);
        let name = rest[at..name_end].to_owned();
        let before = rest[..at].chars().next_back();
        rest = &rest[name_end..];
        // A job's name in quotes is no metric.
        if before == Some('"') {
            continue;
        }
        let mut labels = Vec::new();
        if let Some(selector) = rest.strip_prefix('{') {
            let (selector, after) = selector.split_once('}').expect("a selector ends");
            let matchers = selector.split(',');
            labels.extend(matchers.map(|one| {
                let end = one.find(['=', '!']).expect("a matcher");
                one[..end].trim().to_owned()
            }));
            rest = after;
        }
        found.push((name, labels));
    }
    found
}

/// The labels in `by (…)`, `on (…)` and the like.
fn grouped(expression: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for word in ["by (", "on (", "without (", "ignoring ("] {
        for part in expression.split(word).skip(1) {
            let list = part.split(')').next().unwrap_or_default();
            labels.extend(list.split(',').map(|label| label.trim().to_owned()));
        }
    }
    labels
}

#[test]
fn alerts_and_dashboard_name_only_what_is_declared() {
    let all: BTreeSet<&str> =
        METRICS.iter().flat_map(|metric| metric.labels).copied().chain(ADDED).collect();
    let expressions = expressions();
    let mut seen = BTreeSet::new();
    for (place, expression) in &expressions {
        for (name, labels) in selected(expression) {
            if name == RECORDED {
                continue;
            }
            let metric = METRICS.iter().find(|metric| metric.full_name() == name);
            let metric = metric.unwrap_or_else(|| panic!("{place}: there is no metric {name}"));
            for label in labels {
                assert!(
                    ADDED.contains(&label.as_str()) || metric.labels.contains(&label.as_str()),
                    "{place}: {name} has no label {label}"
                );
            }
            seen.insert(name);
        }
        for label in grouped(expression) {
            assert!(all.contains(label.as_str()), "{place}: no metric has a label {label}");
        }
    }
    assert!(seen.len() > 30, "the expressions are found: {seen:?}");
    let text = read("contrib/prometheus/rules.yml") + &read("contrib/grafana/secgroup.json");
    for word in ["$labels.", "{{"] {
        for part in text.split(word).skip(1) {
            let name = part.split(|one| !is_of_name(one)).next().unwrap_or_default();
            assert!(
                name.is_empty() || all.contains(name),
                "{word}{name}: no metric has this label"
            );
        }
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let tests = read("contrib/prometheus/rules_test.yml");
    let rules = read("contrib/prometheus/rules.yml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let blocks: Vec<&str> = tests.split("- eval_time:").collect();
    for alert in alerts {
        let fires = |block: &&str| {
            block.contains(&format!("alertname: {alert}\n")) && block.contains("exp_alerts:")
        };
        assert!(blocks.iter().any(fires), "{alert} fires in no test");
    }
}
