//! Writers that are killed, or whose disk is full. They are processes: this test, started once more.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const DIR: &str = "SECGROUP_TEST_JOURNAL";

fn writer_process(test: &str, dir: &Path, script: &str) -> Child {
    let name = format!("observe::journal::tests::killed::{test}");
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn told(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.filter_map(|line| line.split_once("told: ").map(|(_, text)| text.to_owned()))
}

fn tell(text: impl std::fmt::Display) {
    writeln!(stdout(), "\ntold: {text}").unwrap();
}

#[test]
fn a_killed_writer_leaves_whole_records_and_the_next_one_goes_on() {
    if let Some(dir) = env::var_os(DIR) {
        let mut writer = Writer::open(Path::new(&dir), MIN_SIZE).unwrap();
        for time in 0.. {
            tell(writer.append(record(time, 3)).unwrap());
        }
    }
    let (_home, dir) = home();
    let mut last = 0;
    for round in 0..8_u32 {
        let test = "a_killed_writer_leaves_whole_records_and_the_next_one_goes_on";
        let mut child = writer_process(test, &dir, r#"exec "$@""#);
        let mut ids = told(&mut child).map(|id| id.parse::<u64>().unwrap());
        let first = ids.next().unwrap();
        // At the beginning of the journal, within a segment, and after some were deleted.
        let mut known = ids.by_ref().take(round as usize * 60).last().unwrap_or(first);
        // Where the signal hits is the point of it: any moment will do.
        let end = Instant::now() + Duration::from_micros(u64::from(round) * 37);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        known = ids.last().unwrap_or(known);
        child.wait().unwrap();

        assert!(first > last, "round {round}: {first} after {last}");
        let kept = super::ids(&dir);
        assert!(kept.is_sorted_by(|one, next| one < next));
        // What was acknowledged is there; of what was not, at most one record.
        last = *kept.last().unwrap();
        assert!(last == known || last == known + 1, "round {round}: {last}, {known} was told");
        let coverage = Reader::open(&dir).unwrap().coverage().unwrap();
        assert_eq!(coverage.damaged, 0);
        // No account tells what was lost, and that is told.
        assert!(coverage.periods.iter().all(|period| period.partial));
        let counted: u64 = coverage.periods.iter().map(|period| period.kept).sum();
        assert!(counted >= coverage.records, "{counted} {}", coverage.records);
    }
}

/// The longest file in bytes that the kernel lets a process write.
const LIMIT: usize = 10_240;

#[test]
fn what_a_full_disk_does_not_take_is_counted_as_lost() {
    if let Some(dir) = env::var_os(DIR) {
        let mut writer = Writer::open(Path::new(&dir), DEFAULT_SIZE).unwrap();
        let mut refused = 0;
        // Of a length that leaves no room for an account behind the last one that fits; ids have up to two digits.
        let of_length = |length: usize, time| {
            let record = record(time, 3);
            let missing = length - 1 - serde_json::to_vec(&record).unwrap().len();
            PacketRecord { device: record.device.clone() + &"x".repeat(missing), ..record }
        };
        for time in 0..100 {
            let failing = writer.is_failing();
            match writer.append(of_length(LIMIT / 16 - 1, time)) {
                Ok(_) => assert!(!failing, "nothing fits after what did not fit"),
                Err(error) => {
                    assert!(error.to_string().ends_with("cannot be written"), "{error}");
                    refused += 1;
                }
            }
        }
        // 310 packets: 10 of them lost before, in the kernel.
        let counted =
            Account { seen: 310, kept: 100, aggregated: 200, lost: 10, ..account(0, 0, 0) };
        assert!(writer.account(counted).is_err());
        assert!(writer.is_failing());
        // The next segment has room.
        fs::remove_file(&Segment::list(Path::new(&dir)).unwrap()[0].path).unwrap();
        writer.append(record(101, 1)).unwrap();
        writer.account(Account { seen: 1, kept: 1, ..account(0, 0, 0) }).unwrap();
        assert!(!writer.is_failing());
        tell(refused);
        return;
    }
    let (_home, dir) = home();
    // Files of a limited length in blocks of 512 bytes, and no signal.
    let script = format!(r#"trap '' XFSZ; ulimit -f {}; exec "$@""#, LIMIT / 512);
    let test = "what_a_full_disk_does_not_take_is_counted_as_lost";
    let mut child = writer_process(test, &dir, &script);
    let refused: Vec<u64> = told(&mut child).map(|text| text.parse().unwrap()).collect();
    assert!(child.wait().unwrap().success());
    assert!(refused.len() == 1 && (50..100).contains(&refused[0]), "{refused:?}");
    let refused = refused[0];
    let coverage = Reader::open(&dir).unwrap().coverage().unwrap();
    assert_eq!(coverage.damaged, 0);
    let total = coverage.since(0).unwrap();
    assert_eq!((total.seen, total.kept), (311, 101 - refused));
    assert_eq!((total.aggregated, total.lost), (200 - 2 * refused, 10 + 3 * refused));
}
