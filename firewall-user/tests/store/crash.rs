//! A process is killed at any moment: acknowledged changes are kept, and no change is kept in part.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firewall_user::model::Model;
use firewall_user::store::{FILE, Store};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::edits::{new_group, tcp_rule};

const DIR: &str = "SECGROUP_TEST_CRASH_DIR";

/// Rules that come with each group of the writer, beside the two of every new group.
const RULES: usize = 20;

/// What the killed process does: it makes groups, each with its rules in one transaction, and prints
/// a line after each.
fn write(dir: &Path) {
    let mut store = Store::open(dir).unwrap();
    let mut out = std::io::stdout();
    // With one thread, the harness has begun a line.
    writeln!(out).unwrap();
    for number in store.model().unwrap().groups.len() - 1.. {
        let mut change = store.begin().unwrap();
        let group = change.create_group(new_group(&format!("g{number}"))).unwrap();
        change.add_rules(&group, (1..=RULES as u16).map(tcp_rule).collect()).unwrap();
        change.commit().unwrap();
        writeln!(out, "acknowledged {number}").unwrap();
    }
}

/// Starts the test that is running once more, as the writer.
fn start(dir: &TempDir) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::a_killed_writer_leaves_whole_transactions", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills a writer after so many acknowledgements and a moment; returns the last number it
/// acknowledged.
fn kill_after(mut child: Child, acknowledgements: usize, moment: Duration) -> Option<usize> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut numbers =
        lines.filter_map(|line| line.strip_prefix("acknowledged ").map(|it| it.parse().unwrap()));
    let mut last = numbers.by_ref().take(acknowledgements).last();
    // Where in a transaction the signal hits is the point of it: any moment will do.
    let end = Instant::now() + moment;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    last = numbers.last().or(last);
    child.wait().unwrap();
    last
}

fn check(dir: &TempDir, acknowledged: usize) -> Model {
    let model = Store::open(dir.path()).unwrap().model().unwrap();
    // Besides the default one.
    let groups = model.groups.len() - 1;
    // One transaction may have been committed and not acknowledged.
    assert!(
        groups == acknowledged || groups == acknowledged + 1,
        "{groups} groups, {acknowledged} acknowledged"
    );
    for number in 0..groups {
        let group = model.group(&format!("g{number}")).unwrap();
        assert_eq!(group.rules.len(), RULES + 2, "group {number} is half done");
    }
    let sql = Connection::open(dir.path().join(FILE)).unwrap();
    let word = |pragma: &str| -> String {
        sql.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
    };
    assert_eq!(word("integrity_check"), "ok");
    let broken = sql.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap();
    assert!(!broken, "a reference to nothing");
    assert_eq!(Store::open(dir.path()).unwrap().generation().unwrap(), groups as u64);
    model
}

#[test]
fn a_killed_writer_leaves_whole_transactions() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write(dir.as_ref());
    }
    let dir = TempDir::new().unwrap();
    let (mut there, mut mid) = (0, 0);
    for round in 0..40_u64 {
        // Spread over the few milliseconds that a transaction takes, in no step of its own.
        let moment = Duration::from_micros(round * round * 7919 % 6_000);
        let last = kill_after(start(&dir), (round % 4) as usize, moment);
        let acknowledged = last.map_or(there, |number| number + 1);
        let now = check(&dir, acknowledged).groups.len() - 1;
        mid += usize::from(now > acknowledged);
        there = now;
    }
    assert!(there > 40, "the writers did write: {there}");
    println!("{there} groups, {mid} of them committed and not acknowledged");
}
