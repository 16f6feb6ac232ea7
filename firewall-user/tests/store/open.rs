//! Files that are no store, or not one that this program knows.

use std::fs;
use std::path::Path;

use firewall_ebpf::interface::TcpChecks;
use firewall_user::model::{HookChoice, Interface, Mode, Tracking};
use firewall_user::policy::Addresses;
use firewall_user::store::{Error, FILE, Store};
use rusqlite::Connection;
use tempfile::TempDir;

/// What opening and reading says, and the hint.
fn refused(dir: &Path) -> (String, String) {
    let error = Store::open(dir).map_or_else(|error| error, |store| store.model().unwrap_err());
    (error.to_string(), error.hint().unwrap_or_default())
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
fn a_newer_store_is_left_alone() {
    let dir = TempDir::new().unwrap();
    made(dir.path()).pragma_update(None, "user_version", 5).unwrap();
    let path = dir.path().join(FILE);
    let (message, hint) = refused(dir.path());
    assert_eq!(
        message,
        format!("store {} has schema 5, and this secgroup knows up to 4", path.display())
    );
    assert_eq!(hint, "a newer secgroup has used it: use that one, or another --state-dir");
}

/// Columns of the table of interfaces, with their types and defaults.
fn columns(connection: &Connection) -> Vec<(String, String, Option<String>)> {
    let mut statement = connection
        .prepare("SELECT name, type, dflt_value FROM pragma_table_info('interfaces')")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// A store as version 1 left it: a group, and an interface in it.
const VERSION_1: &str = "
DROP TABLE addresses_in_force;
DROP TABLE pending;
DROP TABLE management;
ALTER TABLE state DROP COLUMN panic;
ALTER TABLE interfaces DROP COLUMN tcp;
ALTER TABLE interfaces DROP COLUMN pick_up;
ALTER TABLE interfaces DROP COLUMN tracking;
ALTER TABLE interfaces DROP COLUMN mode;
ALTER TABLE interfaces DROP COLUMN revalidate;
INSERT INTO groups VALUES ('sg-0123456789abcdef0', 'web', 'd');
INSERT INTO interfaces
    VALUES (5, 'eni-0123456789abcdef0', 'eth0', NULL, 'tcx', 'guest', 'all');
INSERT INTO interface_groups VALUES (5, 0, 'sg-0123456789abcdef0');
PRAGMA user_version = 1;
";

#[test]
fn a_store_of_version_1_becomes_one_of_this_version() {
    let (dir, fresh) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    made(dir.path()).execute_batch(VERSION_1).unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let model = store.model().unwrap();
    let interface = &model.interfaces[&5];
    assert_eq!((interface.device.as_str(), interface.hook), ("eth0", HookChoice::Tcx));
    assert_eq!(interface.groups, [model.group("web").unwrap().id.clone()]);
    // What it says of the new options is what version 1 did.
    assert_eq!((interface.tcp, interface.pick_up), (TcpChecks::Guard, true));
    assert_eq!(interface.tracking, Tracking::Auto);
    assert_eq!((interface.mode, interface.revalidate), (Mode::Enforce, false));
    assert_eq!(
        columns(&Connection::open(dir.path().join(FILE)).unwrap()),
        columns(&made(fresh.path()))
    );
    // It takes changes, also of the new columns.
    let changed = Interface {
        tcp: TcpChecks::Strict,
        pick_up: false,
        mode: Mode::Audit,
        revalidate: true,
        ..interface.clone()
    };
    let mut change = store.begin().unwrap();
    assert_eq!(change.addresses_in_force().unwrap(), Addresses::new());
    change.put_interface(&changed).unwrap();
    change.commit().unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.model().unwrap().interfaces[&5], changed);
}

#[test]
fn a_version_that_never_was_is_of_another_program() {
    let dir = TempDir::new().unwrap();
    for version in [0, -1] {
        made(dir.path()).pragma_update(None, "user_version", version).unwrap();
        let (message, _) = refused(dir.path());
        assert!(message.ends_with(" is a database of another program"), "{message}");
        let connection = Connection::open(dir.path().join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", 4).unwrap();
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
    assert_eq!(hint, "choose another with --state-dir");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn what_is_no_database_is_damaged() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, "not a database, and long enough to have been one".repeat(100)).unwrap();
    let (message, hint) = refused(dir.path());
    assert_eq!(message, format!("store {} is damaged: file is not a database", path.display()));
    assert!(hint.starts_with("enforcement goes on as it is; move "), "{hint}");
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
fn a_value_that_no_version_wrote_is_damage() {
    let dir = TempDir::new().unwrap();
    made(dir.path()).execute("INSERT INTO groups VALUES ('sg-nonsense', 'web', 'd')", []).unwrap();
    let (message, _) = refused(dir.path());
    assert!(message.contains(" is damaged: ") && message.contains("sg-nonsense"), "{message}");
}

#[test]
fn a_place_that_cannot_be_written() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Access { what: "opened", .. }), "{error}");
    assert_eq!(
        error.hint().unwrap(),
        "run as root, or choose a directory you can write with --state-dir"
    );
    // A directory in which nobody, not even root, can make a file.
    let error = Store::open(Path::new("/proc/self")).unwrap_err();
    assert!(matches!(error, Error::Access { what: "opened", .. }), "{error}");
}
