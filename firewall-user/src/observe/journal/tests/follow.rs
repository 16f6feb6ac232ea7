//! Readers beside the writer.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_follower_sees_every_record_once_while_segments_come_and_go() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, 16 * MIN_SIZE).unwrap();
    for time in 0..10 {
        writer.append(record(time, 1)).unwrap();
    }
    let reader = Reader::open(&dir).unwrap();
    let mut all = reader.follow(Some(4)).unwrap();
    let mut new = reader.follow(None).unwrap();
    let end = 1500;
    let writing = thread::spawn(move || {
        for time in 10..end {
            writer.append(record(time, 1)).unwrap();
            if time % 100 == 0 {
                writer.account(account(100, 100, 0)).unwrap();
            }
        }
        writer
    });
    for (follow, first) in [(&mut all, 5), (&mut new, 11)] {
        let mut seen = Vec::new();
        let deadline = Instant::now() + LIMIT;
        while seen.last() != Some(&(end as u64)) {
            assert!(Instant::now() < deadline, "{:?}", seen.last());
            for entry in follow.read(64).unwrap() {
                if let Entry::Record(record) = entry {
                    seen.push(record.id);
                }
            }
            follow.wait(Duration::from_millis(50));
        }
        assert!(seen.iter().copied().eq(first..=end as u64));
        assert_eq!((follow.missed(), follow.damaged()), (0, 0));
    }
    writing.join().unwrap();
}

#[test]
fn a_follower_that_is_too_slow_knows_what_it_missed() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
    writer.append(record(0, 1)).unwrap();
    let mut follow = Reader::open(&dir).unwrap().follow(Some(0)).unwrap();
    assert_eq!(follow.read(usize::MAX).unwrap().len(), 1);
    for time in 1..1000 {
        writer.append(record(time, 1)).unwrap();
    }
    let read = follow.read(usize::MAX).unwrap().len() as u64;
    assert_eq!(read + follow.missed(), 999);
    assert!(follow.missed() > 500, "{}", follow.missed());
}

#[test]
fn a_follower_waits_for_a_journal_that_does_not_exist_yet() {
    let (_home, dir) = home();
    let mut follow = Reader::open(&dir).unwrap().follow(None).unwrap();
    assert!(follow.read(10).unwrap().is_empty());
    let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
    writer.append(record(0, 1)).unwrap();
    assert_eq!(follow.read(10).unwrap().len(), 1);
    // A line that is being written is read when it is whole.
    let begun = Instant::now();
    follow.wait(Duration::from_millis(10));
    assert!(begun.elapsed() < LIMIT);
}
