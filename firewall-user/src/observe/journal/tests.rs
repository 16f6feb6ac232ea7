use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::observe::journal::segment::Segment;

mod damage;
mod follow;
mod killed;
mod recorder;

pub(super) fn record(time: i64, packets: u64) -> PacketRecord {
    PacketRecord::sample(time, packets)
}

/// A directory for a journal, with all above it private.
pub(super) fn home() -> (TempDir, PathBuf) {
    let temporary = TempDir::new().unwrap();
    let dir = temporary.path().join(DIRECTORY);
    (temporary, dir)
}

pub(super) fn records(entries: Entries) -> Vec<PacketRecord> {
    let records = entries.filter_map(|entry| match entry.unwrap() {
        Entry::Record(record) => Some(*record),
        Entry::Account { .. } => None,
    });
    records.collect()
}

pub(super) fn ids(dir: &Path) -> Vec<u64> {
    let all = records(Reader::open(dir).unwrap().entries().unwrap());
    all.iter().map(|record| record.id).collect()
}

fn account(seen: u64, kept: u64, lost: u64) -> Account {
    let aggregated = seen - kept - lost;
    Account { from: 1000, to: 2000, seen, kept, aggregated, lost, partial: false }
}

#[test]
fn records_are_read_as_they_were_written_and_numbers_ascend_over_restarts() {
    let (_home, dir) = home();
    assert_eq!(ids(&dir), [0; 0]);
    for start in [0, 3, 6] {
        let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
        for index in start..start + 3 {
            assert_eq!(writer.append(record(index, 1)).unwrap(), index.cast_unsigned() + 1);
        }
    }
    let read = records(Reader::open(&dir).unwrap().entries().unwrap());
    let expected: Vec<_> =
        (0_i64..9).map(|index| (index.cast_unsigned() + 1, record(index, 1))).collect();
    let expected: Vec<_> =
        expected.into_iter().map(|(id, record)| PacketRecord { id, ..record }).collect();
    assert_eq!(read, expected);
}

#[test]
fn the_oldest_segments_are_deleted_and_numbers_ascend_over_that() {
    let (_home, dir) = home();
    let on_disk = || -> u64 {
        let segments = fs::read_dir(&dir).unwrap().map(Result::unwrap);
        let segments = segments.filter(|one| one.file_name().to_str().unwrap().ends_with("jsonl"));
        segments.map(|one| one.metadata().unwrap().len()).sum()
    };
    let mut written = 0_u64;
    for _ in 0..3 {
        let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
        for _ in 0..200 {
            written += 1;
            assert_eq!(writer.append(record(written.cast_signed(), 1)).unwrap(), written);
            assert!(on_disk() <= MIN_SIZE && on_disk() == writer.size());
        }
        let ids = ids(&dir);
        // What is left is the end, without a gap, and nearly as much as fits.
        assert!(ids.iter().copied().eq(ids[0]..=written), "{ids:?}");
        assert!(ids.len() < 200 && on_disk() > MIN_SIZE * 3 / 4);
    }
    // A smaller size takes effect at the next start.
    drop(Writer::open(&dir, 4 * MIN_SIZE).unwrap());
    let before = ids(&dir);
    let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
    writer.append(record(0, 1)).unwrap();
    assert!(ids(&dir).len() <= before.len() + 1 && on_disk() <= MIN_SIZE);
}

#[test]
fn accounts_alone_fill_segments_too() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
    for _ in 0..800 {
        writer.account(account(3, 2, 1)).unwrap();
        assert!(writer.size() <= MIN_SIZE);
    }
    let id = writer.append(record(1, 1)).unwrap();
    assert_eq!(Reader::open(&dir).unwrap().get(id).unwrap().map(|record| record.id), Some(id));
}

#[test]
fn one_process_writes() {
    let (_home, dir) = home();
    let writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    assert!(matches!(Writer::open(&dir, DEFAULT_SIZE), Err(JournalError::Busy { .. })));
    drop(writer);
    Writer::open(&dir, DEFAULT_SIZE).unwrap();
}

#[test]
fn the_directory_is_private_and_no_link_is_followed() {
    let (home, dir) = home();
    Writer::open(&dir, DEFAULT_SIZE).unwrap().append(record(1, 1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    // A link in place of a segment: neither read nor written.
    let other = home.path().join("other");
    fs::write(&other, "x\n").unwrap();
    symlink(&other, dir.join("00000000000000000005.jsonl")).unwrap();
    assert!(Reader::open(&dir).unwrap().entries().unwrap().any(|entry| entry.is_err()));
    assert!(Writer::open(&dir, DEFAULT_SIZE).is_err());
    assert_eq!(fs::read(&other).unwrap(), b"x\n");

    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Reader::open(&dir), Err(JournalError::Ownership(_))));
    assert!(matches!(Writer::open(&dir, DEFAULT_SIZE), Err(JournalError::Ownership(_))));
}

#[test]
fn after_a_power_failure_no_number_is_given_twice() {
    let (_home, dir) = home();
    let boot = |name: &str| Some(name.to_owned());
    let mut writer = Writer::open_in_boot(&dir, DEFAULT_SIZE, boot("a"), 1).unwrap();
    let ids: Vec<_> = (0..5).map(|time| writer.append(record(time, 1)).unwrap()).collect();
    // Neither dropped nor written to the disk: a reader has seen five records, and none is there any more.
    std::mem::forget(writer);
    let segment = Segment::list(&dir).unwrap().remove(0).path;
    fs::write(&segment, "").unwrap();
    // Its lock went with its process.
    fs::remove_file(dir.join("lock")).unwrap();
    let mut writer = Writer::open_in_boot(&dir, DEFAULT_SIZE, boot("b"), 1).unwrap();
    let next = writer.append(record(9, 1)).unwrap();
    assert!(next > *ids.last().unwrap(), "{next}");
    drop(writer);
    // A writer that ended well reserves nothing, so the next boot goes on with the next number.
    let mut writer = Writer::open_in_boot(&dir, DEFAULT_SIZE, boot("c"), 1).unwrap();
    assert_eq!(writer.append(record(9, 1)).unwrap(), next + 1);
}

#[test]
fn records_are_chosen_by_the_time_of_their_last_packet_also_after_the_clock_was_set_back() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
    // The clock was set back twice.
    let times: Vec<i64> = (0..20).chain(-5..15).chain(8..12).map(|step| step * 1000).collect();
    for time in &times {
        writer.append(record(*time, 1)).unwrap();
    }
    let reader = Reader::open(&dir).unwrap();
    for since in [i64::MIN, -4999, 0, 1, 5001, 5002, 19_000, 19_002, i64::MAX] {
        let chosen: Vec<_> =
            records(reader.since(since).unwrap()).iter().map(|record| record.first).collect();
        let expected: Vec<_> = times.iter().copied().filter(|time| time + 1 >= since).collect();
        assert_eq!(chosen, expected, "{since}");
    }
}

#[test]
fn records_are_found_by_number_and_from_the_end() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
    let reader = Reader::open(&dir).unwrap();
    assert!(reader.get(1).unwrap().is_none());
    for time in 0..300 {
        writer.append(record(time, 1)).unwrap();
    }
    let kept = ids(&dir);
    for id in [0, 1, kept[0] - 1, 301, u64::MAX] {
        assert!(reader.get(id).unwrap().is_none(), "{id}");
    }
    for id in [kept[0], kept[0] + 1, 250, 300] {
        let found = reader.get(id).unwrap().unwrap();
        assert_eq!((found.id, found.first), (id, id.cast_signed() - 1));
    }
    let last = |count, every| {
        let found = reader.last(count, |record| record.id % every == 0).unwrap();
        found.iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(last(3, 1), [298, 299, 300]);
    assert_eq!(last(3, 50)[1..], [250, 300]);
    assert_eq!(last(0, 1), [0; 0]);
    assert_eq!(last(10_000, 1), kept);
}

#[test]
fn coverage_has_the_oldest_time_and_all_periods() {
    let (_home, dir) = home();
    let reader = Reader::open(&dir).unwrap();
    assert_eq!(reader.coverage().unwrap(), Coverage::default());
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    writer.append(record(1100, 5)).unwrap();
    writer.append(record(1200, 1)).unwrap();
    writer.account(account(10, 2, 4)).unwrap();
    writer.append(record(3000, 7)).unwrap();
    let coverage = reader.coverage().unwrap();
    let open =
        Account { from: 3000, to: 3001, seen: 7, kept: 1, aggregated: 6, lost: 0, partial: true };
    assert_eq!(coverage.periods, [account(10, 2, 4), open]);
    assert_eq!((coverage.oldest, coverage.newest), (Some(1000), Some(3001)));
    assert_eq!((coverage.records, coverage.size), (3, writer.size()));
    assert_eq!(coverage.since(2001), Some(open));
    assert_eq!(coverage.since(2000), Some(account(10, 2, 4).joined(open)));
    assert_eq!(coverage.since(3002), None);
    // The account that ends the period has what the record alone did not tell.
    let ended = Account { from: 2000, to: 4000, ..account(8, 1, 1) };
    writer.account(ended).unwrap();
    assert_eq!(reader.coverage().unwrap().periods, [account(10, 2, 4), ended]);
}
