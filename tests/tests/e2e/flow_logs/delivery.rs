//! The disk is full, or the process is killed while it writes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use firewall_user::observe::flow_logs::status::Statuses;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secgroup_tests::http::get_any_status;
use secgroup_tests::process::output;
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, ec2};

use super::{Scenario, sum};
use crate::support::{Mounted, metric};

/// An interval, and the time after which it is delivered.
const INTERVAL: Duration = Duration::from_secs(60 + 10);

/// What the metrics that are served say about the flow log: whether it has failed, and its records that were lost.
fn metrics(host: &Namespace, id: &str) -> [u64; 2] {
    let (_, text) = get_any_status(host, ([127, 0, 0, 1], 9911).into(), "/metrics").unwrap();
    ["failed", "records_lost_total"]
        .map(|name| metric(&text, &format!("secgroup_flow_log_{name}{{flow_log=\"{id}\"}}")))
}

#[test]
fn what_does_not_fit_on_a_full_disk_is_skipdata_and_no_packet_is_counted_twice() {
    const LOST: u64 = 5;
    const DELIVERED: u64 = 7;
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "");
    let directory = scenario.files.path().join("logs");
    fs::create_dir_all(&directory).unwrap();
    // Unmounted before the directory is removed, also if the test fails.
    let disk = Mounted::new("tmpfs", &directory, "size=64k,mode=0700");
    disk.fill_but(0);
    let state_dir = scenario.secgroup.state_dir();
    let id = scenario.id.clone();
    let status = || Statuses::read(&state_dir).logs.remove(&id).unwrap_or_default();
    let begun = status();
    let echo = UdpEcho::start(&net.server, (Pair::SERVER[0], 5201).into());
    let socket = udp::connect(&net.client, echo.address());
    // One flow, which goes on.
    let exchange = |count| (0..count).for_each(|_| assert!(udp::is_echoed(&socket, MAX_WAIT)));
    let before = ec2::now();
    exchange(LOST);
    let after = ec2::now() + 1;
    wait_until(INTERVAL, "the interval to be over", || status().until > after * 1000);
    let failed = status();
    assert_eq!(failed.delivered, begun.delivered, "{failed:?}");
    let list = scenario.secgroup.ok("flow-log list");
    assert!(list.contains(" FAILED") && list.contains("No space left on device"), "{list}");
    wait_until(MAX_WAIT, "the metrics to say so", || {
        metrics(&net.server, &id) == [1, failed.failed]
    });
    assert!(failed.failed >= 2, "both directions: {failed:?}");
    assert_eq!(files(&directory)[1], BTreeSet::new());

    disk.free();
    // Another interval may have ended meanwhile.
    let failed = status();
    exchange(DELIVERED);
    let lines = scenario.records();
    for direction in ["ingress", "egress"] {
        let fields = [("protocol", "17"), ("log-status", "OK"), ("flow-direction", direction)];
        assert_eq!(sum(&lines, &fields)[0], DELIVERED, "{lines:#?}");
    }
    let skipped: Vec<_> = lines.iter().filter(|line| line["log-status"] == "SKIPDATA").collect();
    let [skipped] = &skipped[..] else { panic!("{lines:#?}") };
    let time = |name: &str| skipped[name].parse::<i64>().unwrap();
    assert!(time("start") <= before && time("end") >= after, "{skipped:#?} {before} {after}");
    assert_eq!(time("end") * 1000, failed.until, "{skipped:#?}");
    let now = status();
    assert_eq!((now.error, now.failed, now.missed_since), (None, failed.failed, None));
}

/// The files below a directory: those that have their names, and those that are not finished.
fn files(directory: &Path) -> [BTreeSet<PathBuf>; 2] {
    let [mut named, mut unfinished] = [BTreeSet::new(), BTreeSet::new()];
    let Ok(entries) = fs::read_dir(directory) else { return [named, unfinished] };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            let [mut more, mut of_these] = files(&path);
            named.append(&mut more);
            unfinished.append(&mut of_these);
        } else if path.file_name().unwrap().to_str().unwrap().starts_with(".unfinished-") {
            unfinished.insert(path);
        } else {
            named.insert(path);
        }
    }
    [named, unfinished]
}

/// Asserts that each file that has its name is whole.
fn assert_whole(directory: &Path) {
    for path in &files(directory)[0] {
        assert!(path.to_str().unwrap().ends_with(".log.gz"), "{path:?}");
        let text = output(Command::new("gzip").arg("-dc").arg(path));
        assert!(text.ends_with('\n') && text.lines().count() > 1, "{path:?}: {text}");
    }
}

#[test]
fn a_process_that_is_killed_while_it_writes_leaves_no_half_file() {
    /// As many kills; every third is at a time that has nothing to do with files.
    const KILLS: u64 = 10;
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "");
    let directory = scenario.files.path().join("logs");
    let mut left = 0;
    for round in 0..KILLS {
        assert!(secgroup_tests::ping::ping(&net.client, Pair::SERVER[0]));
        let mut serve = scenario.serve.take().unwrap();
        let id = Pid::from_raw(i32::try_from(serve.id()).unwrap());
        let [named, unfinished] = files(&directory);
        kill(id, Signal::SIGTERM).unwrap();
        let start = Instant::now();
        if round % 3 == 2 {
            thread::sleep(Duration::from_millis(20 * round));
        } else {
            // It writes now, or has written: a file is not finished for less than a millisecond.
            loop {
                let [now_named, now_unfinished] = files(&directory);
                if !now_unfinished.is_subset(&unfinished) || !now_named.is_subset(&named) {
                    break;
                }
                assert!(start.elapsed() < MAX_WAIT, "no file is written: {:?}", serve.lines());
            }
        }
        serve.kill();
        assert_whole(&directory);
        let is_left = !files(&directory)[1].is_subset(&unfinished);
        eprintln!("killed after {:?}, half a file: {is_left}", start.elapsed());
        left += u64::from(is_left);
        scenario.serve();
    }
    assert!(left > 0, "no kill was in a write");
    scenario.records();
    assert_eq!(files(&directory)[1], BTreeSet::new());
    assert_whole(&directory);
    // Each of them can be read.
    let read = scenario.secgroup.run(["flow-log", "show"]);
    assert!(read.code == Some(0) && read.stderr.is_empty(), "{read}");
}

#[test]
fn a_file_that_cannot_be_deleted_keeps_no_other() {
    let net = Pair::new();
    let mut scenario = Scenario::with(&net, "", "max_size = 1\n");
    let place = scenario.directory();
    fs::create_dir_all(&place).unwrap();
    // A process looks for such files at its first delivery.
    assert!(scenario.serve.take().unwrap().terminate().success());
    // Of 900 KiB, the first the oldest.
    let paths = [2, 1].map(|hours| {
        let name =
            format!("000000000000_vpcflowlogs_local_fl-1_20261130T0000Z_0000000{hours}.log.gz");
        let path = place.join(name);
        let file = File::create(&path).unwrap();
        file.set_len(900 << 10).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
        path
    });
    // Nobody can delete what something is mounted on.
    let _mounted = Mounted::bind(&paths[0]);
    scenario.serve();
    let mut serve = scenario.serve.take().unwrap();
    assert!(serve.terminate().success());
    let lines = serve.lines();
    let reported = |line: &String| line.contains("delete old files of flow logs");
    assert!(lines.iter().any(reported), "{lines:#?}");
    assert_eq!(paths.map(|path| path.exists()), [true, false], "{lines:#?}");
}
