use std::fs;
use std::io::Write as _;

use tempfile::TempDir;

use super::*;
use crate::observe::collector::account::Account;
use crate::observe::journal::{Account as Period, DEFAULT_SIZE, MIN_SIZE, Writer};
use crate::observe::record::PacketRecord;

fn accounts(lost: &[(&str, u64)]) -> Accounts {
    let of = |(interface, lost): &(&str, u64)| {
        ((*interface).to_owned(), Account { lost: *lost, ..Account::default() })
    };
    lost.iter().map(of).collect()
}

#[test]
fn packets_that_the_collector_lost_are_skipped_once_and_by_their_verdict() {
    let mut collected = Collected::new(Arc::default());
    let (rejected, accepted) =
        (Skipped { rejected: true, accepted: false }, Skipped { rejected: false, accepted: true });
    let none = accounts(&[]);
    assert_eq!(collected.lost(&accounts(&[("eni-1", 0)]), &none), []);
    let lost = collected.lost(&accounts(&[("eni-1", 2)]), &accounts(&[("eni-2", 1)]));
    assert_eq!(lost, [("eni-1".to_owned(), rejected), ("eni-2".to_owned(), accepted)]);
    assert_eq!(collected.lost(&accounts(&[("eni-1", 2)]), &accounts(&[("eni-2", 1)])), []);
    let lost = collected.lost(&accounts(&[("eni-1", 3)]), &accounts(&[("eni-1", 1)]));
    assert_eq!(lost, [("eni-1".to_owned(), Skipped { rejected: true, accepted: true })]);
}

#[test]
fn records_that_did_not_fit_are_skipped_on_every_interface() {
    let hub: Arc<Hub> = Arc::default();
    let mut collected = Collected::new(Arc::clone(&hub));
    let record = Arc::new(PacketRecord::sample(1000, 1));
    for _ in 0..=QUEUE {
        hub.publish(&record);
    }
    let all = Skipped { accepted: true, rejected: true };
    let taken = collected.take(true);
    assert_eq!((taken.records.len(), taken.skipped_all), (QUEUE, all));
    // Nothing collects in this process.
    assert_eq!(taken.collects, Skipped::default());
    let taken = collected.take(true);
    assert_eq!((taken.records.len(), taken.skipped_all), (0, Skipped::default()));
}

#[test]
fn a_journal_tells_records_and_what_was_lost_until_it_cannot_be_read() {
    let home = TempDir::new().unwrap();
    let directory = journal::directory(home.path());
    let mut writer = Writer::open(&directory, DEFAULT_SIZE).unwrap();
    writer.append(PacketRecord::sample(1000, 1)).unwrap();
    let mut journalled = Journalled::open(home.path()).unwrap();
    let rejected = Skipped { accepted: false, rejected: true };
    let taken = journalled.take(true);
    assert_eq!((taken.records.len(), taken.collects), (0, rejected), "from now on");
    writer.append(PacketRecord::sample(2000, 1)).unwrap();
    let mut period =
        Period { from: 0, to: 1, seen: 1, kept: 1, aggregated: 0, lost: 0, partial: false };
    writer.account(period).unwrap();
    let taken = journalled.take(true);
    assert_eq!((taken.records.len(), taken.skipped_all), (1, Skipped::default()));
    (period.seen, period.lost) = (3, 2);
    writer.account(period).unwrap();
    assert_eq!(journalled.take(true).skipped_all, rejected);
    fs::rename(&directory, home.path().join("moved")).unwrap();
    fs::write(&directory, "no directory").unwrap();
    assert_eq!(journalled.take(true).collects, Skipped::default());
}

#[test]
fn records_that_were_deleted_or_damaged_before_they_were_read_are_skipped() {
    let rejected = Skipped { accepted: false, rejected: true };
    let skipped = |writes: fn(&mut Writer, &Path)| {
        let home = TempDir::new().unwrap();
        let directory = journal::directory(home.path());
        let mut writer = Writer::open(&directory, MIN_SIZE).unwrap();
        writer.append(PacketRecord::sample(1000, 1)).unwrap();
        let mut journalled = Journalled::open(home.path()).unwrap();
        writes(&mut writer, &directory);
        let skipped = journalled.take(true).skipped_all;
        assert_eq!(journalled.take(true).skipped_all, Skipped::default(), "once");
        skipped
    };
    fn append(writer: &mut Writer, count: i64) {
        for time in 0..count {
            writer.append(PacketRecord::sample(time, 1)).unwrap();
        }
    }
    assert_eq!(skipped(|_, _| {}), Skipped::default());
    assert_eq!(skipped(|writer, _| append(writer, 1)), Skipped::default());
    assert_eq!(skipped(|writer, _| append(writer, 1000)), rejected);
    let damage = |_: &mut Writer, directory: &Path| {
        let file = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let file = file.filter(|path| path.extension().is_some()).max().unwrap();
        fs::File::options().append(true).open(file).unwrap().write_all(b"{}\n").unwrap();
    };
    assert_eq!(skipped(damage), rejected);
}
