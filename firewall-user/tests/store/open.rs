//! Files that are not a store of this program.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use firewall_user::explain::Explain as _;
use firewall_user::model::Limits;
use firewall_user::store::{Error, FILE, Store};
use rusqlite::Connection;
use tempfile::TempDir;

/// The error of opening and reading, and its hint.
fn refused(dir: &Path) -> (String, String) {
    let error = Store::open(dir).map_or_else(|error| error, |store| store.model().unwrap_err());
    (error.to_string(), error.hint().unwrap_or_default().into_owned())
}

/// The end of an error's text, with its cause.
fn chain(error: &Error) -> String {
    let text = format!("{error}: {}", error.source().unwrap());
    text.split_once(".db ").unwrap().1.to_owned()
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
        let mut model = Store::open(&below).unwrap().model().unwrap();
        let (_, default) = model.acls.pop_first().unwrap();
        assert!(default.is_default && default.allows_everything());
        let (_, group) = model.groups.pop_first().unwrap();
        assert_eq!((group.name.as_str(), group.rules.len()), ("default", 2));
        assert_eq!(model, Default::default());
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&below), mode(&below.join(FILE))), (0o700, 0o600));
}

/// Every file of a directory with its content and its time of modification.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u8>, i64)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let read = |path: &Path| (fs::read(path).unwrap(), fs::metadata(path).unwrap().mtime_nsec());
    entries.map(|it| (it.file_name().into_string().unwrap(), read(&it.path()))).collect()
}

#[test]
fn reading_writes_nothing_and_creates_nothing() {
    let dir = TempDir::new().unwrap();
    let absent = Store::open_read_only(&dir.path().join("absent"), Limits::default()).unwrap();
    assert!(absent.is_absent() && !dir.path().join("absent").exists());
    let state = dir.path().join("state");
    let mut store = Store::open(&state).unwrap();
    // A process was killed before it created the tables.
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("empty").join(FILE), "").unwrap();
    assert!(
        Store::open_read_only(&dir.path().join("empty"), Limits::default()).unwrap().is_absent()
    );

    // Beside a writer that has not committed yet.
    let change = store.begin().unwrap();
    let reader = Store::open_read_only(&state, Limits::default()).unwrap();
    assert_eq!(reader.model().unwrap(), *change.model());
    change.commit().unwrap();
    drop((reader, store));

    let before = files(&state);
    let mut reader = Store::open_read_only(&state, Limits::default()).unwrap();
    assert_eq!(reader.id().unwrap().len(), 32);
    assert!(reader.begin().unwrap().set_panic(true).is_err());
    drop(reader);
    assert!(files(&state) == before);
}

#[test]
fn reading_completes_what_a_killed_process_left_half_written() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let model = store.model().unwrap();
    let (path, journal) = (dir.path().join(FILE), dir.path().join(format!("{FILE}-journal")));
    // The journal as it is on the disk right before the commit, with pages of the change after it.
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", "PERSIST").unwrap();
    connection.pragma_update(None, "cache_size", 1).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..200 {
        let (id, text) = (format!("sg-{number:017x}"), "x".repeat(200));
        connection
            .execute("INSERT INTO groups SELECT ?1, id, ?1, ?2 FROM vpcs", [&id, &text])
            .unwrap();
    }
    let left = (fs::read(&path).unwrap(), fs::read(&journal).unwrap());
    drop(connection);
    drop(store);
    fs::write(&path, left.0).unwrap();
    fs::write(&journal, left.1).unwrap();
    store = Store::open_read_only(dir.path(), Limits::default()).unwrap();
    assert_eq!(store.model().unwrap(), model);
}

#[test]
fn a_store_that_somebody_else_can_change_is_refused() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    drop(Store::open(&state).unwrap());
    for mode in [0o777, 0o1777, 0o770] {
        fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
        for opened in [Store::open(&state), Store::open_read_only(&state, Limits::default())] {
            let error = opened.unwrap_err();
            assert!(matches!(error, Error::Directory(_)), "{error}");
            let hint = error.hint().unwrap();
            assert!(hint.contains(&format!("`chmod go-w {}`", state.display())), "{hint}");
        }
    }
    // The permissions of an earlier version, which let everybody hold a lock.
    fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(state.join(FILE), Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&state).unwrap());
    assert_eq!(fs::metadata(state.join(FILE)).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_store_of_another_schema_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    let connection = made(dir.path());
    for version in [1, 2, 3, 4, 5, 6, 8, 0, -1] {
        connection.pragma_update(None, "user_version", version).unwrap();
        let before = fs::read(&path).unwrap();
        let (message, hint) = refused(dir.path());
        assert_eq!(
            message,
            format!(
                "store {} has schema {version}, and this secgroup uses schema 7",
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
    assert!(
        hint.starts_with("enforcement continues, and `secgroup detach --all` ends it; move "),
        "{hint}"
    );
}

#[test]
fn a_file_with_a_hole_is_damaged() {
    let dir = TempDir::new().unwrap();
    drop(made(dir.path()));
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
    made(dir.path())
        .execute("INSERT INTO groups SELECT 'sg-nonsense', id, 'web', 'd' FROM vpcs", [])
        .unwrap();
    let (message, _) = refused(dir.path());
    assert!(message.contains(" is damaged: ") && message.contains("sg-nonsense"), "{message}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Access { what: "opened", .. }), "{error}");
    assert_eq!(chain(&error), "cannot be opened: Is a directory (os error 21)");
    assert_eq!(error.hint().unwrap(), "choose another directory with --state-dir");
    // A directory in which even root cannot create a file.
    let error = Store::open(Path::new("/proc/self")).unwrap_err();
    assert!(matches!(error, Error::Directory(_)), "{error}");
}
