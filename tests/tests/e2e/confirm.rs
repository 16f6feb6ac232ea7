//! Changes that are rolled back unless they are confirmed.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rusqlite::Connection;
use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_for, wait_until};
use secgroup_tests::{Pair, Process, Secgroup, ping};

const RULE: &str = "web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64";

/// A server that a rule allows the client to reach.
fn with_http_rule(net: &Pair) -> (Secgroup<'_>, [TcpServer; 2]) {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    secgroup.ok("attach eth0 --group web");
    let servers = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
    (secgroup, servers)
}

fn is_reachable(net: &Pair) -> bool {
    at(Pair::SERVER, 80).into_iter().all(|end| tcp::connect(&net.client, end).is_ok())
}

fn is_unreachable(net: &Pair) -> bool {
    tcp::none_reaches(&net.client, &at(Pair::SERVER, 80))
}

/// The process that waits for the deadline of an instance.
fn watcher(secgroup: &Secgroup<'_>) -> Option<Pid> {
    let state_dir = secgroup.state_dir();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        let is_watch = words.contains(&"--watch");
        (is_watch && words.iter().any(|word| Path::new(word) == state_dir))
            .then(|| Pid::from_raw(id))
    })
}

/// Kills the watcher, as an operator may.
fn kill_watcher(secgroup: &Secgroup<'_>) {
    kill(watcher(secgroup).unwrap(), Signal::SIGKILL).unwrap();
    wait_until(MAX_WAIT, "the watcher to be gone", || watcher(secgroup).is_none());
}

/// Edits the pending change in the store.
fn update_pending(secgroup: &Secgroup<'_>, assignment: &str) {
    let store = Connection::open(secgroup.state_dir().join("secgroup.db")).unwrap();
    store.busy_timeout(MAX_WAIT).unwrap();
    let changed = store.execute(&format!("UPDATE pending SET {assignment}"), []).unwrap();
    assert_eq!(changed, 1, "no change is pending");
}

#[test]
fn an_unconfirmed_change_is_rolled_back_and_its_rule_ids_are_not_reused() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    let rules = secgroup.ok("rule list");
    let new = secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr ::/0 --confirm 1h");
    secgroup.ok("rollback");
    assert_eq!(secgroup.ok("rule list"), rules);

    secgroup.ok(&format!("rule remove {RULE} --confirm 2s"));
    assert!(is_unreachable(&net));
    wait_until(MAX_WAIT, "the rollback", || secgroup.ok("rule list") == rules);
    assert!(is_reachable(&net));
    wait_until(MAX_WAIT, "the watcher to end", || watcher(&secgroup).is_none());
    assert_eq!(secgroup.refused("confirm", 3).lines().count(), 2);
    secgroup.refused("confirm --show", 3);
    secgroup.refused("rollback", 3);
    // IDs are not reused, so the counters of the new rule start at zero.
    let later = secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr ::/0");
    assert_ne!(new, later);
}

#[test]
fn a_confirmed_change_stays() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    secgroup.ok(&format!("rule remove {RULE} --confirm 2s"));
    let pending = secgroup.ok("confirm --show");
    assert!(pending.starts_with("unconfirmed: rule remove web; rolled back in "), "{pending}");
    assert!(secgroup.ok("status").starts_with(&pending[..30]), "{pending}");
    assert_eq!(secgroup.json("status")["Pending"]["Command"], "rule remove web");
    secgroup.ok("confirm");
    assert!(secgroup.json("status")["Pending"].is_null());
    wait_until(MAX_WAIT, "the watcher to end", || watcher(&secgroup).is_none());
    assert!(is_unreachable(&net));
}

#[test]
fn a_killed_shell_does_not_prevent_the_rollback() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    let line = format!("rule remove {RULE} --confirm 3s");
    let script = ["sh", "-c", "\"$@\"; echo done; sleep 100", "sh"];
    let mut command = secgroup.command_under(&script, &line);
    command.process_group(0);
    let mut shell = Process::capture(command);
    shell.wait_for_output("done");
    let group = Pid::from_raw(i32::try_from(shell.id()).unwrap());
    killpg(group, Signal::SIGHUP).unwrap();
    killpg(group, Signal::SIGKILL).unwrap();
    shell.kill();
    assert!(is_unreachable(&net));
    // The watcher alone rolls back; no command runs.
    wait_until(MAX_WAIT, "the rollback", || watcher(&secgroup).is_none());
    assert!(is_reachable(&net));
}

/// `ssh host secgroup …` and a shell's `$(…)` read until EOF.
#[test]
fn a_caller_that_reads_until_eof_does_not_wait_for_the_deadline() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    let script = ["sh", "-c", "exec 7>&1 8>&2; \"$@\"", "sh"];
    let line = format!("rule remove {RULE} --confirm 1h");
    let answer = CommandOutput::of(&mut secgroup.command_under(&script, &line));
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(watcher(&secgroup).is_some());
    secgroup.ok("rollback");
}

#[test]
fn the_next_command_rolls_back_after_a_killed_watcher() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    for line in
        ["status", "reconcile", "group list", "rule add web egress --protocol 47 --cidr ::/0"]
    {
        secgroup.ok(&format!("rule remove {RULE} --confirm 1h"));
        kill_watcher(&secgroup);
        secgroup.ok("status");
        assert!(is_unreachable(&net));
        update_pending(&secgroup, "deadline = 1");
        let answer = secgroup.run(line.split(' '));
        assert_eq!(answer.code, Some(0), "{answer}");
        let error = "secgroup: `rule remove web` was not confirmed in time and is rolled back";
        assert!(answer.stderr.contains(error), "{line}: {answer}");
        assert!(is_reachable(&net));
    }
}

#[test]
fn serve_rolls_back_after_a_killed_watcher() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    secgroup.ok(&format!("rule remove {RULE} --confirm 1h"));
    kill_watcher(&secgroup);
    update_pending(&secgroup, "deadline = 1");
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("was not confirmed in time");
    assert!(is_reachable(&net));
}

#[test]
fn a_pending_change_is_rolled_back_after_a_reboot() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    secgroup.ok(&format!("rule remove {RULE} --confirm 1h"));
    kill_watcher(&secgroup);
    update_pending(&secgroup, "boot = 'another'");
    // A reboot removes all pins.
    fs::remove_dir_all(secgroup.pin_dir()).unwrap();
    let answer = secgroup.run(["reconcile"]);
    assert!(answer.stderr.contains("was not confirmed in time"), "{answer}");
    assert!(is_reachable(&net));
    secgroup.moved(&[("eth0", "ingress", "no-rule", 1)], || {
        assert!(!ping::ping(&net.client, Pair::SERVER[0]));
    });
}

#[test]
fn an_unconfirmed_first_attach_is_detached() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web --confirm 2s");
    assert!(!ping::ping(&net.client, Pair::SERVER[0]));
    wait_until(MAX_WAIT, "the device to be free", || !secgroup.pin_dir().exists());
    assert!(ping::ping(&net.client, Pair::SERVER[0]));
    wait_until(MAX_WAIT, "the watcher to end", || watcher(&secgroup).is_none());
    secgroup.refused("status", 3);
}

#[test]
fn a_rollback_restores_groups_options_and_hook() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    secgroup.ok("group create other --description x");
    secgroup.ok("attach eth0 --group web --hook tcx --timeout udp=7");
    let mut stream = tcp::connect(&net.client, at(Pair::SERVER, 80)[0]).unwrap();
    let before = secgroup.json("status")["NetworkInterfaces"].clone();
    secgroup.ok("attach eth0 --group other --hook xdp --tcp strict --timeout udp=9 --confirm 1h");
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][0]["Hook"], "xdp");
    secgroup.ok("rollback");
    let mut after = secgroup.json("status")["NetworkInterfaces"].clone();
    for counter in ["OpenedFlows", "PromotedFlows"] {
        after[0][counter] = before[0][counter].clone();
    }
    assert_eq!(after, before);
    tcp::exchange(&mut stream, b"the flow is still there").unwrap();
    assert!(is_reachable(&net));
}

#[test]
fn other_changes_are_refused_while_one_is_pending() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    let hint = "hint: `secgroup confirm` keeps it, `secgroup rollback` undoes it; then retry";
    secgroup.ok(&format!("rule remove {RULE} --confirm 1h"));
    let rules = secgroup.ok("rule list");
    for line in [
        "group create more --description x",
        "group delete web",
        "rule add web egress --protocol 47 --cidr ::/0",
        "rule add web egress --protocol 47 --cidr ::/0 --confirm 1s",
        "prefix-list create office --family ipv4",
        "attach eth0 --group web",
        "detach --all",
    ] {
        let error = secgroup.refused(line, 1);
        assert!(error.contains("`rule remove web` is not confirmed yet"), "{line}: {error}");
        assert!(error.contains(hint), "{line}: {error}");
    }
    assert_eq!(secgroup.ok("rule list"), rules);
    for line in ["reconcile", "gc", "flows flush"] {
        secgroup.ok(line);
    }
    assert_eq!(secgroup.ok("confirm --cancel"), "rolled back: rule remove web\n");
    assert!(is_reachable(&net));
    // A command that changes nothing leaves nothing pending.
    secgroup.ok("attach eth0 --group web --confirm 1h");
    secgroup.refused("confirm", 3);
}

#[test]
fn a_refused_change_leaves_nothing_pending() {
    let net = Pair::new();
    let (secgroup, _servers) = with_http_rule(&net);
    secgroup.refused("attach nothing --group web --confirm 1h", 3);
    secgroup.refused("attach eth0 --group web --hook xdp --confirm soon", 2);
    secgroup
        .refused("rule add web ingress --protocol tcp --port 80 --cidr fd77::/64 --confirm 9s", 1);
    secgroup.refused("confirm", 3);
    assert!(wait_for(Duration::from_secs(3), "no watcher", || watcher(&secgroup)
        .is_none()
        .then_some(true)));
    secgroup.ok("group create more --description x");
}
