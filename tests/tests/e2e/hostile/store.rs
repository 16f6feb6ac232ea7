//! Stores and configurations that cannot be used.

use std::fs;

use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};

use super::{CHANGES, operation, refused, unchanged};

/// The header of an SQLite file: where its version of ours and its application are.
const VERSION: usize = 60;
const APPLICATION: usize = 68;

#[test]
fn a_store_that_cannot_be_used_is_left_alone_and_enforcement_goes_on() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 0)[0]);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let file = secgroup.state_dir().join("secgroup.db");
    let good = fs::read(&file).unwrap();
    let with = |at: usize, value: u32| {
        let mut changed = good.clone();
        changed[at..at + 4].copy_from_slice(&value.to_be_bytes());
        changed
    };
    let path = file.display();
    let damaged = format!(
        "enforcement goes on as it is; move {path} away with its -wal and -shm, then restore a \
         backup or secgroup apply an exported document"
    );
    for (content, error, hint) in [
        (
            b"not a database, and long enough to have been one".repeat(100),
            format!("store {path} is damaged: file is not a database"),
            damaged.as_str(),
        ),
        (
            with(VERSION, 5),
            format!("store {path} has schema 5, and this secgroup knows up to 4"),
            "a newer secgroup has used it: use that one, or another --state-dir",
        ),
        (
            with(APPLICATION, 42),
            format!("{path} is a database of another program"),
            "choose another with --state-dir",
        ),
    ] {
        fs::write(&file, content).unwrap();
        unchanged(&secgroup, &net.server, || {
            for line in CHANGES.into_iter().chain(["status", "stats", "metrics", "serve"]) {
                let error = format!("{}: {error}", operation(line));
                refused(&secgroup.run(line.split(' ')), 1, &error, hint);
            }
        });
        assert!(!tcp::reaches(&net.client, server.address()));
    }
    fs::write(&file, good).unwrap();
    secgroup.ok("reconcile");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_no_place() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let state = secgroup.state_dir();
    let state = state.display();
    // Root may write wherever it is not read-only; the mount ends with the command.
    let script = format!(
        "mount --bind {state} {state} && mount -o remount,bind,ro {state} && exec \"$0\" \"$@\""
    );
    unchanged(&secgroup, &net.server, || {
        for line in CHANGES {
            let wrapper = ["unshare", "--mount", "sh", "-c", &script];
            let answer = CommandOutput::of(&mut secgroup.command_under(&wrapper, line));
            refused(
                &answer,
                1,
                &format!(
                    "{}: store {state}/secgroup.db cannot be opened: unable to open database file",
                    operation(line)
                ),
                "run as root, or choose a directory you can write with --state-dir",
            );
        }
    });
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_place() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let file = secgroup.state_dir().with_file_name("config.toml");
    for (config, message) in [
        ("[maps]\nrules = \"many\"\n", "line 2, column 9: invalid type: string \"many\""),
        ("[maps]\n\nrule = 16\n", "line 3, column 1: unknown field `rule`"),
        ("maps]\n", "line 1, column 5: "),
        ("[limits]\nrules_per_group = -1\n", "line 2, column 19: "),
        ("[maps]\ninterfaces = 257\n", "line 2, column 14: 257 is not 1 to 256"),
    ] {
        secgroup.configure(config);
        unchanged(&secgroup, &net.server, || {
            for line in CHANGES {
                let said = secgroup.refused(line, 1);
                let start = format!("error: configuration {}: {message}", file.display());
                assert!(said.starts_with(&start), "{said}");
                assert_eq!(said.lines().count(), 1, "{said}");
            }
        });
    }
    secgroup.configure("");
}
