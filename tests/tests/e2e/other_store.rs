//! What is attached belongs to one store: a command with another refuses, and reading creates none.

use std::fs;
use std::path::Path;

use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup};

fn with_web(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    secgroup
}

/// Runs a command with another state directory.
fn run(secgroup: &Secgroup<'_>, dir: &Path, line: &str) -> CommandOutput {
    let mut arguments = vec!["--state-dir", dir.to_str().unwrap()];
    arguments.extend(line.split(' '));
    CommandOutput::of(&mut secgroup.command(arguments))
}

fn ok(secgroup: &Secgroup<'_>, dir: &Path, line: &str) -> String {
    let output = run(secgroup, dir, line);
    assert_eq!(output.code, Some(0), "{line}: {output}");
    output.stdout
}

/// The refusal names both stores and the ways out.
fn assert_refused(secgroup: &Secgroup<'_>, dir: &Path, line: &str, here: &str) {
    let output = run(secgroup, dir, line);
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{line}: {output}");
    let own = secgroup.state_dir();
    for part in [
        &format!("what is attached is of the store {}/secgroup.db (id ", own.display()),
        &format!("and this is the store {}/secgroup.db{here}", dir.display()),
        &format!(
            "hint: `--state-dir {}` names that store; `secgroup reconcile --adopt` ",
            own.display()
        ),
    ] {
        assert!(output.stderr.contains(part.as_str()), "{line}: no {part:?} in {output}");
    }
}

#[test]
fn a_wrong_state_directory_is_refused_and_not_created() {
    let net = Pair::new();
    let secgroup = with_web(&net);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let dir = secgroup.state_dir().join("typo");
    for line in [
        "reconcile",
        "status",
        "stats",
        "metrics",
        "flows list",
        "flows count",
        "gc",
        "panic",
        "group list",
        "rule list",
        "prefix-list list",
        "management list",
        "export",
        "confirm",
        "rollback",
        "confirm --show",
    ] {
        assert_refused(&secgroup, &dir, line, ", which does not exist");
        assert!(!dir.exists(), "{line}");
    }
    let document = tempfile::NamedTempFile::new().unwrap();
    fs::write(document.path(), secgroup.ok("export")).unwrap();
    let plan = run(&secgroup, &dir, &format!("apply --dry-run {}", document.path().display()));
    assert_eq!(plan.code, Some(4), "{plan}");
    assert!(!dir.exists());
    assert!(!tcp::reaches(&net.client, server.address()), "{}", secgroup.view());
    secgroup.ok("reconcile");
}

#[test]
fn a_command_with_another_store_is_refused_until_that_store_adopts() {
    let net = Pair::new();
    let secgroup = with_web(&net);
    let servers = [80, 81].map(|port| TcpServer::echo(&net.server, at(Pair::SERVER, port)[0]));
    let reaches = || [0, 1].map(|index| tcp::reaches(&net.client, servers[index].address()));
    let dir = secgroup.state_dir().join("other");
    ok(&secgroup, &dir, "group create open --description x");
    for line in ["attach eth0 --group open", "reconcile", "status", "detach --all"] {
        assert_refused(&secgroup, &dir, line, " (id ");
    }
    // A change that is not confirmed is rolled back in that store alone.
    let rules = ok(&secgroup, &dir, "rule list");
    let rule = "ingress --protocol tcp --port 80 --cidr 10.77.0.0/24";
    ok(&secgroup, &dir, &format!("rule add open {rule} --confirm 1s"));
    wait_until(MAX_WAIT, "the rollback", || run(&secgroup, &dir, "confirm --show").code == Some(3));
    assert_eq!(ok(&secgroup, &dir, "rule list"), rules);
    assert_eq!(reaches(), [false, false]);
    // A copy is the same store: a backup can be restored.
    let copy = secgroup.state_dir().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(secgroup.state_dir().join("secgroup.db"), copy.join("secgroup.db")).unwrap();
    ok(&secgroup, &copy, "rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    assert_eq!(reaches(), [true, false]);

    let adopted = ok(&secgroup, &dir, "reconcile --adopt");
    assert_eq!(adopted, "slot 0: detached; it was not in the store\n");
    assert_eq!(reaches(), [true, true]);
    assert_eq!(run(&secgroup, &dir, "status").code, Some(3), "nothing is attached");
}

#[test]
fn what_a_damaged_store_has_attached_can_be_detached() {
    // A header that is none, a page that is none, another program's database.
    for (offset, content) in [(0, 0xff), (4096, 0xff), (68, 0)] {
        let net = Pair::new();
        let secgroup = with_web(&net);
        let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
        let file = secgroup.state_dir().join("secgroup.db");
        let mut bytes = fs::read(&file).unwrap();
        let length = if offset == 68 { 4 } else { 2000 };
        bytes[offset..offset + length].fill(content);
        fs::write(&file, &bytes).unwrap();
        secgroup.refused("status", 1);
        assert!(!tcp::reaches(&net.client, server.address()), "{offset}");
        let output = secgroup.run(["detach", "--all"]);
        assert_eq!(output.code, Some(0), "{output}");
        assert_eq!(output.stdout, "slot 0: detached; it was not in the store\n");
        assert!(output.stderr.starts_with("warning: "), "{output}");
        assert!(tcp::reaches(&net.client, server.address()), "{offset}");
        assert!(!secgroup.pin_dir().exists());
        assert_eq!(fs::read(&file).unwrap(), bytes, "the file is left as it is");
    }
}

#[test]
fn a_lost_store_can_be_left_behind() {
    let net = Pair::new();
    let secgroup = with_web(&net);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    for file in ["secgroup.db", "secgroup.db-wal", "secgroup.db-shm"] {
        let _ = fs::remove_file(secgroup.state_dir().join(file));
    }
    let refused = secgroup.refused("reconcile", 1);
    assert!(
        refused.contains(
            "which does not exist\nhint: that store is gone: restore it from a backup; or "
        ),
        "{refused}"
    );
    assert!(!tcp::reaches(&net.client, server.address()));
    assert_eq!(secgroup.ok("detach --all"), "slot 0: detached; it was not in the store\n");
    assert!(tcp::reaches(&net.client, server.address()));
    assert!(!secgroup.pin_dir().exists());
}
