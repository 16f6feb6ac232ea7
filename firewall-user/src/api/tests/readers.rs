//! What is read while other processes write the store, or were killed while they did.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::Host;

fn journal(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-journal", path.display()))
}

/// Makes a store what it is after a process was killed in its commit: written in part, with the journal that undoes
/// it.
fn kill_in_commit(path: &Path) {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("copy");
    fs::copy(path, &copy).unwrap();
    let connection = Connection::open(&copy).unwrap();
    // Too few pages for the change, so that it is written before the commit.
    connection
        .execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE")
        .unwrap();
    let change = "UPDATE state SET generation = generation + 1; CREATE TABLE filler (text);
                  WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count LIMIT 100)
                  INSERT INTO filler SELECT hex(randomblob(4000)) FROM count";
    connection.execute_batch(change).unwrap();
    assert_ne!(fs::read(&copy).unwrap(), fs::read(path).unwrap(), "nothing was written");
    // Into the same file, which is open.
    fs::write(journal(path), fs::read(journal(&copy)).unwrap()).unwrap();
    fs::write(path, fs::read(&copy).unwrap()).unwrap();
}

#[test]
fn a_journal_that_a_killed_process_left_is_rolled_back_before_a_reading() {
    let host = Host::new();
    host.ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d");
    let describe = "Action=DescribeSecurityGroups&GroupName.1=web";
    let before = host.model();
    host.ok(describe);
    kill_in_commit(&host.file());
    host.ok(describe);
    assert_eq!(host.model(), before);
    host.ok("Action=CreateSecurityGroup&GroupName=db&GroupDescription=d");
    host.ok("Action=DescribeSecurityGroups&GroupName.1=db");
}
