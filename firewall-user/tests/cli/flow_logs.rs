//! `flow-log create`, `delete` and `show`.

use crate::host::Host;

const HEADER: &str =
    "version interface-id srcaddr dstaddr srcport dstport protocol action start end log-status";

fn with_interface() -> (Host, String) {
    let host = Host::new();
    host.id(&["group", "create", "web", "--description", "x"]);
    host.attach("eth0", None, "web");
    let (model, _) = host.state();
    let id = model.interfaces.values().next().unwrap().id.to_string();
    (host, id)
}

#[test]
fn a_flow_log_that_exists_is_not_created_again() {
    let (host, interface) = with_interface();
    let create = ["flow-log", "create", &interface, "--interval", "60"];
    let first = host.run(&create);
    assert_eq!(first.code, 0, "{first:?}");
    let id = first.stdout.trim_end();
    let again = host.run(&create);
    assert_eq!((again.code, again.stdout.as_str()), (1, ""), "{again:?}");
    assert_eq!(
        again.stderr,
        format!(
            "error: flow-log create: {interface} has flow log {id} with these settings already\n\
             hint: --if-not-exists accepts it; `secgroup flow-log list` shows the flow logs\n"
        )
    );
    let accepted = host.run(&[&create[..], &["--if-not-exists"]].concat());
    assert_eq!((accepted.code, accepted.stdout), (0, first.stdout.clone()));
    // Another interval is another flow log.
    let other = host.run(&["flow-log", "create", &interface]);
    assert_eq!(other.code, 0, "{other:?}");
    assert_eq!(host.state().0.flow_logs.len(), 2);
}

#[test]
fn an_unknown_flow_log_is_looked_for_in_the_list() {
    let (host, _) = with_interface();
    for (id, code, error, hint) in [
        ("nope", 2, "\"nope\" is not the id of a flow log", "shows the ids"),
        ("fl-0123456789abcdef0", 3, "there is no flow log", "shows the flow logs"),
    ] {
        let done = host.run(&["flow-log", "delete", id]);
        let hint = format!("hint: `secgroup flow-log list` {hint}\n");
        assert!(done.code == code && done.stderr.ends_with(&hint), "{done:?}");
        assert!(id == "nope" || done.stderr.contains(error), "{done:?}");
    }
}

#[test]
fn a_filter_on_a_field_that_a_file_lacks_is_told() {
    let (host, _) = with_interface();
    let line = "2 eni-1 192.0.2.7 198.51.100.1 40000 22 6 REJECT 1796013070 1796013071 OK";
    let file = host.file("flows.log", &format!("{HEADER}\n{line}\n"));
    let show = |filter: &[&str]| host.run(&[&["flow-log", "show", &file], filter].concat());
    let found = show(&["--port", "ssh"]);
    assert_eq!((found.stdout.lines().count(), found.stderr.as_str()), (2, ""));
    for (filter, field) in [
        (["--group", "web"], "the first line does not name the field group-id"),
        (["--reason", "no-rule"], "the first line does not name the field reason"),
        (["--direction", "ingress"], "the first line does not name the field flow-direction"),
        (["--state", "established"], "records of flow logs have no such field"),
    ] {
        let done = show(&filter);
        assert_eq!((done.code, done.stdout.lines().count()), (0, 1), "{done:?}");
        let expected = format!("warning: {file}: no record matches {}: {field}\n", filter[0]);
        assert_eq!(done.stderr, expected);
    }
}

#[test]
fn what_is_no_flow_log_is_refused_once_and_without_a_header() {
    let (host, _) = with_interface();
    let file = host.file("passwd", "root:x:0:0\n");
    let done = host.run(&["flow-log", "show", &file]);
    let error =
        format!("error: flow-log show: read {file}: its first line names no fields of flow logs\n");
    assert_eq!((done.code, done.stdout.as_str(), done.stderr), (1, "", error));
    // A line that is no record is reported once.
    let file = host.file("damaged.log", &format!("{HEADER}\ngarbage\n"));
    let done = host.run(&["flow-log", "show", &file]);
    let warning =
        format!("warning: {file}: line 2: 1 fields, and the first line of the file names 11\n");
    assert_eq!((done.code, done.stderr), (0, warning));
}

#[test]
fn every_command_with_since_takes_the_same_times() {
    let (host, _) = with_interface();
    let file = host.file("flows.log", &format!("{HEADER}\n"));
    let document = host.file("groups.json", "{\"SecurityGroups\": []}");
    let commands: [&[&str]; 4] = [
        &["drops"],
        &["flow-log", "show", &file],
        &["rule", "unused"],
        &["simulate", &document, "--flow-log", &file],
    ];
    for command in commands {
        let run = |since: &str| host.run(&[command, &["--since", since]].concat());
        let done = run("foo");
        assert_eq!(done.code, 2, "{done:?}");
        assert!(
            done.stderr.contains("write a time span as 30s, 10m, 2h or 1d, a time"),
            "{done:?}"
        );
        let future = run("2999-01-01T00:00:00Z");
        assert_eq!(future.code, 2, "{future:?}");
        assert!(future.stderr.contains("--since is a time that is yet to come"), "{future:?}");
        for since in ["1h", "00:00", "2026-01-01T00:00:00Z"] {
            let done = run(since);
            assert_ne!(done.code, 2, "{done:?}");
        }
    }
}
