//! What readers know of the period that has no account yet, and of the process that records.

use super::*;

fn coverage(dir: &Path) -> Coverage {
    Reader::open(dir).unwrap().coverage().unwrap()
}

#[test]
fn what_was_lost_is_known_before_the_account_is_written() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    writer.append(record(1000, 3)).unwrap();
    assert_eq!(coverage(&dir).open.map(|open| open.counted), Some(None), "nothing was told");
    writer.tell_open(900, 1900, 70, None);
    let found = coverage(&dir);
    assert_eq!(found.open, Some(Open { from: 900, counted: Some(1900) }));
    let account =
        Account { from: 900, to: 1900, seen: 73, kept: 1, aggregated: 2, lost: 70, partial: true };
    assert_eq!(found.periods, [account]);

    let account = Account { partial: false, ..account };
    writer.account(account).unwrap();
    assert_eq!((coverage(&dir).periods, coverage(&dir).open), (vec![account], None));
    writer.tell_open(1900, 2900, 0, None);
    assert_eq!(coverage(&dir).periods, [account], "nothing was lost since");
    writer.tell_open(1900, 3900, 5, None);
    assert_eq!(coverage(&dir).since(0).unwrap().lost, 75);
    let text = fs::read_to_string(dir.join("open")).unwrap();
    assert_eq!(text.len(), 1024);
}

#[test]
fn what_a_killed_writer_had_told_is_in_the_account_that_the_next_one_writes() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    writer.append(record(1000, 3)).unwrap();
    writer.tell_open(900, 1900, 70, None);
    drop(writer);
    let account =
        Account { from: 900, to: 1900, seen: 73, kept: 1, aggregated: 2, lost: 70, partial: true };
    for _ in 0..2 {
        assert_eq!(coverage(&dir).periods, [account]);
        let writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
        assert_eq!((coverage(&dir).periods, coverage(&dir).open), (vec![account], None));
        drop(writer);
    }
}

#[test]
fn it_is_known_whether_a_process_records_and_the_time_until_now_is_covered() {
    let (_home, dir) = home();
    assert_eq!(Reader::open(&dir).unwrap().recorder(), Recorder::default());
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    writer.account(account(0, 0, 0)).unwrap();
    writer.tell_open(2000, 3000, 0, Some("the disk is full"));
    let recorder = Reader::open(&dir).unwrap().recorder();
    assert_eq!(recorder.problem.as_deref(), Some("the disk is full"));
    let found = coverage(&dir);
    let (from, to) = found.recorder.recording.unwrap();
    assert!(from == 2000 && to > 1_000_000_000_000, "{found:?}");
    assert_eq!(found.gaps(0), []);
    // Who asks is not taken for one who writes.
    writer.tell_open(2000, 3000, 0, None);
    assert_eq!(Reader::open(&dir).unwrap().recorder().problem, None);
    drop(writer);
    let found = coverage(&dir);
    assert_eq!((found.recorder, found.open), (Recorder::default(), None));
    Writer::open(&dir, DEFAULT_SIZE).unwrap();
}

#[test]
fn a_directory_that_was_removed_is_created_again_and_numbers_go_on() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    assert_eq!(writer.append(record(1000, 1)).unwrap(), 1);
    writer.keep().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    writer.keep().unwrap();
    assert!(Reader::open(&dir).unwrap().recorder().recording.is_some());
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(writer.append(record(1000, 1)).unwrap(), 2, "also without a look before");
    assert_eq!(ids(&dir), [2]);

    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(writer.keep(), Err(JournalError::Ownership(_))));
    assert!(matches!(writer.append(record(1000, 1)), Err(JournalError::Ownership(_))));
    assert!(writer.is_failing());
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    writer.keep().unwrap();
    assert_eq!(writer.append(record(1000, 1)).unwrap(), 3);

    fs::remove_dir_all(&dir).unwrap();
    let other = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    assert!(matches!(writer.keep(), Err(JournalError::Busy { .. })));
    assert!(writer.append(record(1000, 1)).is_err());
    drop(other);
    writer.keep().unwrap();
    assert_eq!(writer.append(record(1000, 1)).unwrap(), 4);
}
