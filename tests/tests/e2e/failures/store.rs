//! Stores and configurations that are unusable.

use std::fs;

use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};

use super::{CHANGES, assert_refused, assert_unchanged, operation};

/// Offsets in the header of an SQLite file: the user version and the application ID.
const VERSION: usize = 60;
const APPLICATION: usize = 68;

#[test]
fn an_unusable_store_is_unchanged_and_enforcement_continues() {
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
        "enforcement continues, and `secgroup detach --all` ends it; move {path} and \
         {path}-journal away, then restore a backup or `secgroup apply` an exported document"
    );
    for (content, error, hint) in [
        (
            b"not a database, and long enough to have been one".repeat(100),
            format!("store {path} is damaged: file is not a database"),
            damaged.as_str(),
        ),
        (
            with(VERSION, 8),
            format!("store {path} has schema 8, and this secgroup uses schema 7"),
            "use the secgroup version that wrote it: its `secgroup export` writes a document that \
             `secgroup apply` of this version reads; or choose another --state-dir",
        ),
        (
            with(APPLICATION, 42),
            format!("{path} is a database of another program"),
            "choose another directory with --state-dir",
        ),
    ] {
        fs::write(&file, content).unwrap();
        assert_unchanged(&secgroup, &net.server, || {
            for line in CHANGES.into_iter().chain(["status", "stats", "serve"]) {
                let error = format!("{}: {error}", operation(line));
                assert_refused(&secgroup.run(line.split(' ')), 1, &error, hint);
            }
            let CommandOutput { code, stdout, stderr } = secgroup.run(["metrics"]);
            assert!(stdout.contains("\nsecgroup_store_readable 0\n"), "{stdout}");
            assert_eq!(
                (code, stderr),
                (Some(1), format!("error: metrics: {error}\nhint: {hint}\n"))
            );
        });
        assert!(!tcp::reaches(&net.client, server.address()));
    }
    fs::write(&file, good).unwrap();
    secgroup.ok("reconcile");
}

#[test]
fn an_invalid_configuration_is_refused_with_line_and_column() {
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
        assert_unchanged(&secgroup, &net.server, || {
            for line in ["attach eth0 --group web", "reconcile", CHANGES[1]] {
                let error = secgroup.refused(line, 1);
                let start = format!("error: configuration {}: {message}", file.display());
                assert!(error.starts_with(&start), "{error}");
                assert_eq!(error.lines().count(), 1, "{error}");
            }
        });
    }
    secgroup.configure("");
}
