//! Changes with --confirm, and emergency mode, as far as the store is concerned.

use std::process::Stdio;

use crate::host::Host;

const RULE: [&str; 8] =
    ["rule", "add", "web", "ingress", "--protocol", "47", "--cidr", "10.0.0.0/8"];

/// Runs a change with `--confirm`; returns its standard error.
#[track_caller]
fn confirmed_within(host: &Host, args: &[&str], time: &str) -> String {
    let done = host.run(&[args, &["--confirm", time]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    done.stderr
}

#[test]
fn an_unconfirmed_change_is_announced_and_can_be_rolled_back() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let (before, _) = host.state();
    assert_eq!(
        confirmed_within(&host, &RULE, "90s"),
        "secgroup: this change is rolled back in 1m 30s unless `secgroup confirm` keeps it\n"
    );
    let shown = host.ok(&["confirm", "--show"]);
    assert!(shown.starts_with("unconfirmed: rule add web; rolled back in 1m"), "{shown}");
    assert_eq!(host.ok(&["rollback"]), "rolled back: rule add web\n");
    assert_eq!(host.state().0, before);

    confirmed_within(&host, &RULE, "1h");
    assert_eq!(host.ok(&["confirm"]), "confirmed: rule add web\n");
    let (kept, _) = host.state();
    assert_ne!(kept, before);
    let done = host.run(&["confirm"]);
    assert_eq!(done.code, 3);
    assert_eq!(
        done.stderr,
        "error: confirm: there is no unconfirmed change\nhint: it was confirmed, or rolled back \
         at its deadline: `secgroup rule list` shows the rules\n"
    );
    for wrong in ["0s", "25h", "soon", "30"] {
        assert_eq!(host.run(&[&RULE[..], &["--confirm", wrong]].concat()).code, 2, "{wrong}");
    }
    assert_eq!(host.state().0, kept);
}

/// A process may be killed at any moment of a rollback.
#[test]
fn an_interrupted_rollback_is_completed_by_the_next_command() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let (before, _) = host.state();
    confirmed_within(&host, &RULE, "1h");
    host.store().end_pending(1).unwrap();
    let mut command = host.command(&["group", "list"]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(host.state().0, before);
    assert_eq!(host.run(&["confirm", "--show"]).code, 3);
}

#[test]
fn management_networks_are_kept_canonical() {
    let host = Host::new();
    assert_eq!(host.ok(&["management", "list"]), "");
    let done = host.run(&["management", "set", "192.0.2.7/24", "2001:DB8::/32", "192.0.2.0/24"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    assert_eq!(done.stderr, "secgroup: 192.0.2.7/24 was stored as 192.0.2.0/24\n");
    assert_eq!(host.ok(&["management", "list"]), "192.0.2.0/24\n2001:db8::/32\n");
    let done = host.run(&["management", "set", "::/0"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            2,
            "error: set management networks: ::/0 contains every address\nhint: give the networks that \
             administrators connect from\n"
        )
    );
    assert_eq!(
        host.ok(&["panic"]),
        "PANIC: only traffic of 192.0.2.0/24, 2001:db8::/32 passes: nothing is attached; 0 flows removed\n"
    );
    let done = host.run(&["management", "clear"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(host.ok(&["panic", "--off"]), "panic ended: nothing is attached\n");
    host.ok(&["management", "clear"]);
    let done = host.run(&["panic"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            1,
            "error: panic: no management network is set, so every packet would be dropped\n\
             hint: `secgroup management set 192.0.2.0/24` sets one; --force makes the change anyway\n"
        )
    );
}
