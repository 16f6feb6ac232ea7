//! Files that are not as they were written.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use proptest::prelude::*;

use super::*;

fn segments(dir: &Path) -> Vec<PathBuf> {
    Segment::list(dir).unwrap().into_iter().map(|segment| segment.path).collect()
}

#[test]
fn a_line_that_was_cut_is_not_read_and_is_removed_by_the_next_writer() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    for time in 0..3 {
        writer.append(record(time, 1)).unwrap();
    }
    drop(writer);
    let path = segments(&dir).remove(0);
    let whole = fs::read(&path).unwrap();
    let begin_of_last =
        whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for length in (begin_of_last..whole.len()).step_by(7) {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(ids(&dir), [1, 2], "{length}");
        let coverage = Reader::open(&dir).unwrap().coverage().unwrap();
        assert_eq!((coverage.records, coverage.damaged), (2, 0), "{length}");
        let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
        writer.append(record(9, 1)).unwrap();
        drop(writer);
        assert_eq!(ids(&dir).len(), 3, "{length}");
        assert_eq!(Reader::open(&dir).unwrap().coverage().unwrap().damaged, 0, "{length}");
    }
}

#[test]
fn a_line_of_any_length_is_skipped() {
    let (_home, dir) = home();
    Writer::open(&dir, DEFAULT_SIZE).unwrap().append(record(1, 1)).unwrap();
    let path = segments(&dir).remove(0);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    for length in [MAX_LINE - 2, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE, 1 << 20] {
        file.write_all(&vec![b'x'; length]).unwrap();
        file.write_all(b"\n").unwrap();
    }
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    writer.append(record(2, 1)).unwrap();
    assert_eq!(ids(&dir), [1, 2]);
    assert_eq!(Reader::open(&dir).unwrap().coverage().unwrap().damaged, 6);
    let mut entries = Reader::open(&dir).unwrap().entries().unwrap();
    assert_eq!(entries.by_ref().count(), 3);
    assert_eq!(entries.damaged(), 6);
}

#[test]
fn a_deleted_segment_is_replaced() {
    let (_home, dir) = home();
    let mut writer = Writer::open(&dir, DEFAULT_SIZE).unwrap();
    writer.append(record(1, 1)).unwrap();
    fs::remove_file(&segments(&dir)[0]).unwrap();
    writer.append(record(2, 1)).unwrap();
    assert_eq!(ids(&dir), [2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes of a segment are overwritten: every line that is not touched is read, none is made up, and the next
    /// writer goes on.
    #[test]
    fn undamaged_lines_are_read(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (_home, dir) = home();
        let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
        for time in 0..40 {
            writer.append(record(time, 1)).unwrap();
            if time % 10 == 9 {
                writer.account(account(10, 10, 0)).unwrap();
            }
        }
        drop(writer);
        let mut untouched = Vec::new();
        for path in segments(&dir) {
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            for (index, byte) in &damage {
                bytes[index.index(whole.len())] = *byte;
            }
            bytes.truncate(cut.map_or(whole.len(), |cut| cut.index(whole.len())));
            // A line is whole if it and the end of the one before it are there.
            let mut start = 0;
            for line in whole.split_inclusive(|byte| *byte == b'\n') {
                let from = start.max(1) - 1;
                let end = start + line.len();
                if bytes.len() >= end
                    && bytes[start..end] == whole[start..end]
                    && (start == 0 || bytes[from] == b'\n')
                    && let Ok(Entry::Record(record)) = Entry::parse(&line[..line.len() - 1])
                {
                    untouched.push(*record);
                }
                start = end;
            }
            fs::write(&path, &bytes).unwrap();
        }
        let reader = Reader::open(&dir).unwrap();
        let read = records(reader.entries().unwrap());
        for record in &untouched {
            prop_assert!(read.contains(record), "{record:?}");
        }
        reader.coverage().unwrap();
        reader.last(5, |_| true).unwrap();
        reader.follow(Some(0)).unwrap().read(usize::MAX).unwrap();
        let mut writer = Writer::open(&dir, MIN_SIZE).unwrap();
        let id = writer.append(record(99, 1)).unwrap();
        prop_assert!(untouched.iter().all(|record| record.id < id));
        prop_assert!(reader.get(id).unwrap().is_some_and(|record| record.first == 99));
    }
}
