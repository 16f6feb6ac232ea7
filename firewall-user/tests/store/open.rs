//! Files that are not a store of this program.

use std::fs;
use std::path::Path;

use firewall_user::explain::Explain as _;
use firewall_user::store::{Error, FILE, Store};
use rusqlite::Connection;
use tempfile::TempDir;

/// The error of opening and reading, and its hint.
fn refused(dir: &Path) -> (String, String) {
    let error = Store::open(dir).map_or_else(|error| error, |store| store.model().unwrap_err());
    (error.to_string(), error.hint().unwrap_or_default().into_owned())
}

fn made(dir: &Path) -> Connection {
    drop(Store::open(dir).unwrap());
    Connection::open(dir.join(FILE)).unwrap()
}

#[test]
fn a_store_opens_again_and_again() {
    let dir = TempDir::new().unwrap();
    let below = dir.path().join("not/there/yet");
    for _ in 0..2 {
        assert_eq!(Store::open(&below).unwrap().model().unwrap(), Default::default());
    }
    let mode = |name: &str| -> String {
        let connection = Connection::open(below.join(FILE)).unwrap();
        connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    };
    assert_eq!(mode("journal_mode"), "wal");
}

#[test]
fn a_store_of_another_schema_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    let connection = made(dir.path());
    for version in [1, 2, 3, 5, 0, -1] {
        connection.pragma_update(None, "user_version", version).unwrap();
        let before = fs::read(&path).unwrap();
        let (message, hint) = refused(dir.path());
        assert_eq!(
            message,
            format!(
                "store {} has schema {version}, and this secgroup uses schema 4",
                path.display()
            )
        );
        assert!(hint.starts_with("use the secgroup version that wrote it: "), "{hint}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE groups (id)").unwrap();
    let before = fs::read(&path).unwrap();
    let (message, hint) = refused(dir.path());
    assert_eq!(message, format!("{} is a database of another program", path.display()));
    assert_eq!(hint, "choose another directory with --state-dir");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_damaged() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, "not a database, and long enough to have been one".repeat(100)).unwrap();
    let (message, hint) = refused(dir.path());
    assert_eq!(message, format!("store {} is damaged: file is not a database", path.display()));
    assert!(hint.starts_with("enforcement continues; move "), "{hint}");
}

#[test]
fn a_file_with_a_hole_is_damaged() {
    let dir = TempDir::new().unwrap();
    let connection = made(dir.path());
    connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
    drop(connection);
    let path = dir.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    // All pages but the first, which has the header and the schema.
    bytes[4096..].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let (message, _) = refused(dir.path());
    assert!(message.contains(" is damaged: "), "{message}");
}

#[test]
fn a_value_that_secgroup_does_not_write_is_damage() {
    let dir = TempDir::new().unwrap();
    made(dir.path()).execute("INSERT INTO groups VALUES ('sg-nonsense', 'web', 'd')", []).unwrap();
    let (message, _) = refused(dir.path());
    assert!(message.contains(" is damaged: ") && message.contains("sg-nonsense"), "{message}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Access { what: "opened", .. }), "{error}");
    assert_eq!(
        error.hint().unwrap(),
        "run as root, or choose a directory you can write with --state-dir"
    );
    // A directory in which even root cannot create a file.
    let error = Store::open(Path::new("/proc/self")).unwrap_err();
    assert!(matches!(error, Error::Access { what: "opened", .. }), "{error}");
}
