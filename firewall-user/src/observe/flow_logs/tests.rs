//! Records, sums and files, without a kernel.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::aggregate::{Aggregator, Bounds, Packets, Skipped, Traffic, Tuple};
use super::destination::{Destination, Plan};
use super::field::Format;
use super::files::read::{Records, find};
use super::files::retain::{Keep, retain};
use super::files::{Layout, MAX_FILE};
use super::journald;
use super::record::{Action, LogStatus, Origin, Record, Why};
use crate::model::{FlowLogId, FlowLogSettings, Identity, RecordFiles};
use crate::observe::record::RuleName;

mod delivery;

/// A whole minute, in milliseconds since 1970: 2026-11-30T03:20:00Z.
const START: i64 = 1_796_008_800_000;

const ETH0: &str = "eni-0123456789abcdef0";

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        account_id: "000000000000".into(),
        interface_id: ETH0.into(),
        vpc_id: "vpc-1".into(),
        subnet_id: "subnet-1".into(),
        instance_id: "i-1".into(),
        region: "local".into(),
        az_id: "local-az1".into(),
    })
}

/// Packets from a port of a client to a web server.
fn packets(port: u16, action: Action, why: Why) -> Packets {
    Packets {
        tuple: Tuple {
            direction: Direction::Ingress,
            protocol: 6,
            source: "192.0.2.7".parse().unwrap(),
            destination: "198.51.100.1".parse().unwrap(),
            source_port: port,
            destination_port: 443,
        },
        action,
        why,
        rule: None,
        packets: 2,
        bytes: 100,
        first: START + 1000,
        last: START + 2000,
        tcp_flags: 2,
    }
}

fn accepted(port: u16) -> Packets {
    let rule = RuleName {
        security_group_rule_id: "sgr-1".into(),
        group_id: "sg-1".into(),
        group_name: String::new(),
    };
    let why = Why::Reason(Reason::Established);
    Packets { rule: Some(Arc::new(rule)), ..packets(port, Action::Accept, why) }
}

fn rejected(port: u16) -> Packets {
    packets(port, Action::Reject, Why::Reason(Reason::NoRule))
}

fn records(add: impl FnOnce(&mut Aggregator), bounds: Bounds, traffic: Traffic) -> Vec<Record> {
    let mut aggregator = Aggregator::new(60, bounds, START);
    add(&mut aggregator);
    let closed = aggregator.close(START + 60_000);
    assert_eq!(closed.len(), 1);
    closed[0].records(&origin(), traffic)
}

fn settings(files: Option<RecordFiles>) -> FlowLogSettings {
    FlowLogSettings {
        traffic: "ALL".into(),
        destination_type: "s3".into(),
        destination: Some("arn:aws:s3:::bucket/a".into()),
        log_group: None,
        permission: None,
        cross_account_role: None,
        format: Format::all().to_string(),
        interval: 60,
        files,
        tag_fields: Vec::new(),
    }
}

#[test]
fn a_record_of_version_2_is_a_line_of_aws() {
    let records =
        records(|to| to.add(ETH0, START, accepted(51234)), Bounds::default(), Traffic::All);
    assert_eq!(
        records[0].line(&Format::default()),
        "2 000000000000 eni-0123456789abcdef0 192.0.2.7 198.51.100.1 51234 443 6 2 100 1796008801 1796008802 \
         ACCEPT OK"
    );
}

#[test]
fn every_line_is_read_back_as_it_was_written() {
    let audit = packets(3, Action::Accept, Why::WouldDrop(Reason::Acl));
    let add = |to: &mut Aggregator| {
        for one in [accepted(1), rejected(2), audit] {
            to.add(ETH0, START, one);
        }
        to.skip(ETH0, START, Skipped { accepted: true, rejected: true });
    };
    let written = records(add, Bounds { accepted: 1, rejected: 9 }, Traffic::All);
    let format = Format::all();
    let columns = Format::columns(&format.header());
    let statuses: Vec<_> = written.iter().filter_map(|record| record.status).collect();
    let skipped = LogStatus::SkipData;
    assert_eq!(statuses, [LogStatus::Ok, LogStatus::Ok, skipped, skipped]);
    for record in written {
        let line = record.line(&format);
        assert_eq!(Record::parse(&columns, &line).unwrap(), record, "{line}");
    }
    let columns = Format::columns("version srcaddr no-such-field-yet srcport");
    let line = Record::parse(&columns, "12 192.0.2.1 x 80").unwrap();
    assert_eq!((line.source_port, line.end), (Some(80), None));
    assert!(Record::parse(&columns, "2 192.0.2.1 x").is_err());
    assert!(Record::parse(&columns, "2 192.0.2.1 x 70000").is_err());
}

#[test]
fn a_flood_of_rejects_has_a_bounded_number_of_records_and_no_packet_is_lost() {
    let bounds = Bounds { accepted: 5, rejected: 100 };
    let add = |to: &mut Aggregator| {
        for port in 0..50_000 {
            to.add(ETH0, START, rejected(port));
        }
        // The flood takes nothing from those.
        to.add(ETH0, START, accepted(1));
    };
    let records = records(add, bounds, Traffic::All);
    assert_eq!(records.len(), 1 + 100 + 1);
    let of = |action| {
        let chosen = records.iter().filter(move |record| record.action == Some(action));
        chosen.filter_map(|record| record.packets).sum::<u64>()
    };
    assert_eq!((of(Action::Reject), of(Action::Accept)), (100_000, 2));
    let rest = records.last().unwrap();
    assert_eq!((rest.status, rest.source), (Some(LogStatus::SkipData), None));
    let line = rest.line(&Format::all());
    assert!(
        line.contains(" - - - - - 99800 4990000 1796008801 1796008802 REJECT SKIPDATA "),
        "{line}"
    );
    assert!(line.ends_with(" ingress - - no-rule"), "{line}");
}

#[test]
fn packets_of_a_tuple_are_summed_within_an_interval() {
    let add = |to: &mut Aggregator| {
        let first = Packets { why: Why::Reason(Reason::NewFlow), tcp_flags: 2, ..accepted(1) };
        let last = Packets { tcp_flags: 1, last: START + 70_000, ..accepted(1) };
        to.add(ETH0, START, first);
        to.add(ETH0, START + 59_999, last);
        to.add(ETH0, START + 60_000, accepted(1));
    };
    let records = records(add, Bounds::default(), Traffic::All);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.packets, record.bytes, record.tcp_flags), (Some(4), Some(200), Some(3)));
    assert_eq!(record.why, Some(Why::Reason(Reason::NewFlow)));
    // No record ends after its interval.
    assert_eq!(record.end, Some(START / 1000 + 60));
}

#[test]
fn packets_of_another_rule_or_reason_have_a_record_of_their_own() {
    let other = RuleName {
        security_group_rule_id: "sgr-2".into(),
        group_id: "sg-1".into(),
        group_name: String::new(),
    };
    let add = |to: &mut Aggregator| {
        for one in [
            accepted(1),
            Packets { rule: Some(Arc::new(other.clone())), ..accepted(1) },
            packets(1, Action::Accept, Why::Reason(Reason::Untracked)),
            packets(1, Action::Accept, Why::WouldDrop(Reason::Acl)),
            packets(1, Action::Reject, Why::Reason(Reason::Acl)),
            rejected(1),
            rejected(1),
        ] {
            to.add(ETH0, START, one);
        }
    };
    let told = |traffic| {
        let records = records(add, Bounds::default(), traffic);
        let one = |record: &Record| (record.why.unwrap().to_string(), record.packets.unwrap());
        let mut told: Vec<_> = records.iter().map(one).collect();
        told.sort();
        told
    };
    let named = |all: &[(&str, u64)]| -> Vec<_> {
        all.iter().map(|(why, packets)| ((*why).to_owned(), *packets)).collect()
    };
    let accepts =
        named(&[("established", 2), ("established", 2), ("untracked", 2), ("would-drop:acl", 2)]);
    let rejects = named(&[("acl", 2), ("no-rule", 4)]);
    assert_eq!(told(Traffic::Accept), accepts);
    assert_eq!(told(Traffic::Reject), rejects);
    assert_eq!(told(Traffic::All).len(), accepts.len() + rejects.len());
}

#[test]
fn what_has_no_record_of_its_own_is_only_in_flow_logs_of_its_action() {
    let bounds = Bounds { accepted: 0, rejected: 0 };
    let add = |to: &mut Aggregator| {
        to.add(ETH0, START, accepted(1));
        to.add(ETH0, START, rejected(1));
    };
    let actions = |traffic| {
        records(add, bounds, traffic).iter().filter_map(|record| record.action).collect::<Vec<_>>()
    };
    assert_eq!(actions(Traffic::Accept), [Action::Accept]);
    assert_eq!(actions(Traffic::Reject), [Action::Reject]);
    assert_eq!(actions(Traffic::All), [Action::Accept, Action::Reject]);
}

#[test]
fn times_of_a_record_are_of_its_first_and_last_packet_and_within_the_interval() {
    let times = |each: &[(i64, i64)]| {
        let add = |to: &mut Aggregator| {
            for (first, last) in each {
                let (first, last) = (START + first, START + last);
                to.add(ETH0, START, Packets { first, last, ..accepted(1) });
            }
        };
        let records = records(add, Bounds::default(), Traffic::All);
        [records[0].start, records[0].end].map(|time| time.unwrap() - START / 1000)
    };
    assert_eq!(times(&[(5000, 9000), (2000, 3000)]), [2, 9]);
    assert_eq!(times(&[(-5000, 70_000)]), [0, 60]);
}

#[test]
fn a_time_is_far_when_the_clock_was_set_or_the_machine_slept() {
    let aggregator = Aggregator::new(60, Bounds::default(), START);
    for (seconds, is_far) in [(0, false), (-60, false), (-61, true), (660, false), (661, true)] {
        assert_eq!(aggregator.is_far_from(START + seconds * 1000), is_far, "{seconds}");
    }
}

#[test]
fn a_line_has_the_addresses_of_its_packets_and_no_ports_where_there_are_none() {
    for header in ["srcaddr pkt-srcaddr protocol srcport", "pkt-srcaddr srcaddr protocol srcport"] {
        let line = match header.starts_with("src") {
            true => "10.0.0.1 192.0.2.1 6 80",
            false => "192.0.2.1 10.0.0.1 6 80",
        };
        let record = Record::parse(&Format::columns(header), line).unwrap();
        assert_eq!(record.source, "192.0.2.1".parse().ok(), "{header}");
    }
    for (protocol, port) in [(6, Some(0)), (17, Some(0)), (1, None), (47, None)] {
        let line = format!("{protocol} 0");
        let record = Record::parse(&Format::columns("protocol dstport"), &line).unwrap();
        assert_eq!(record.subject().destination_port, port, "{protocol}");
    }
}

#[test]
fn an_interval_without_packets_is_nodata_and_one_with_lost_ones_skipdata() {
    let lost = |to: &mut Aggregator| {
        to.skip(ETH0, START, Skipped { accepted: false, rejected: true });
    };
    let status = |records: Vec<Record>| records.iter().map(|one| one.status).collect::<Vec<_>>();
    let bounds = Bounds::default();
    assert_eq!(status(records(|_| {}, bounds, Traffic::All)), [Some(LogStatus::NoData)]);
    assert_eq!(status(records(lost, bounds, Traffic::Reject)), [Some(LogStatus::SkipData)]);
    // Those that are lost would not be in this one.
    assert_eq!(status(records(lost, bounds, Traffic::Accept)), []);
    let line = records(|_| {}, bounds, Traffic::All)[0].line(&Format::default());
    assert_eq!(
        line,
        "2 000000000000 eni-0123456789abcdef0 - - - - - - - 1796008800 1796008860 - NODATA"
    );
}

#[test]
fn late_packets_are_in_the_first_interval_that_is_open() {
    let mut aggregator = Aggregator::new(60, Bounds::default(), START + 30_000);
    let closed = aggregator.close(START + 60_000);
    assert_eq!((closed[0].start, closed[0].end), (START + 30_000, START + 60_000));
    aggregator.add(ETH0, START + 59_000, accepted(1));
    let closed = aggregator.end(START + 70_000);
    let [closed] = &closed[..] else { panic!("{closed:?}") };
    assert_eq!((closed.start, closed.end), (START + 60_000, START + 70_000));
    assert_eq!(closed.records(&origin(), Traffic::All)[0].packets, Some(2));
}

/// Writes records of as many ports into files of at most so many bytes; returns the files.
fn write(directory: &Path, files: Option<RecordFiles>, ports: u16, max: usize) -> Vec<String> {
    let plan = Plan::new(&settings(files)).unwrap();
    let Destination::Files(bucket) = &plan.destination else { panic!("{plan:?}") };
    let add = |to: &mut Aggregator| (0..ports).for_each(|port| to.add(ETH0, START, accepted(port)));
    let records = records(add, Bounds::default(), Traffic::All);
    let id = FlowLogId::random().unwrap();
    let layout = Layout { directory, bucket, identity: &Identity::default(), id: &id };
    let (written, result) = layout.write(START / 1000 + 60, &plan.format, &records, max);
    result.unwrap();
    assert_eq!(written.iter().map(|(_, count)| count).sum::<usize>(), records.len());
    written
        .iter()
        .map(|(path, _)| path.strip_prefix(directory).unwrap().display().to_string())
        .collect()
}

/// A directory that nobody else can change, as the files need one.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn files_are_in_the_layout_of_aws() {
    let place = directory();
    for (is_hive, is_per_hour, path) in [
        (false, false, "bucket/a/AWSLogs/000000000000/vpcflowlogs/local/2026/11/30/"),
        (false, true, "bucket/a/AWSLogs/000000000000/vpcflowlogs/local/2026/11/30/03/"),
        (
            true,
            true,
            "bucket/a/AWSLogs/aws-account-id=000000000000/aws-service=vpcflowlogs/aws-region=local/year=2026/\
             month=11/day=30/hour=03/",
        ),
    ] {
        let files = RecordFiles { format: "plain-text".into(), is_hive, is_per_hour };
        let written = write(place.path(), Some(files), 1, MAX_FILE);
        let name = written[0].strip_prefix(path).unwrap_or_else(|| panic!("{written:?}"));
        assert!(name.starts_with("000000000000_vpcflowlogs_local_fl-"), "{name}");
        assert!(name.contains("_20261130T0320Z_") && name.ends_with(".log.gz"), "{name}");
    }
}

#[test]
fn records_go_into_as_many_files_as_their_size_needs_and_are_read_back() {
    let place = directory();
    let written = write(place.path(), None, 1000, 20_000);
    assert!(written.len() > 5, "{written:?}");
    let found = find(place.path()).unwrap();
    assert_eq!(found.len(), written.len());
    let read = found.iter().flat_map(|path| Records::open(path).unwrap()).map(Result::unwrap);
    let mut ports: Vec<_> = read.filter_map(|record| record.source_port).collect();
    ports.sort_unstable();
    assert_eq!(ports, (0..1000).collect::<Vec<_>>());
}

#[test]
fn what_a_killed_process_left_is_no_file_and_is_deleted() {
    let place = directory();
    let written = write(place.path(), None, 1, MAX_FILE);
    let path = place.path().join(&written[0]);
    let name = path.file_name().unwrap().to_str().unwrap();
    let half = path.with_file_name(format!(".unfinished-{name}"));
    fs::write(&half, "half").unwrap();
    assert_eq!(find(place.path()).unwrap(), std::slice::from_ref(&path));
    let keep = Keep { bytes: u64::MAX, age: None };
    retain(place.path(), keep, SystemTime::now()).unwrap();
    assert!(path.exists() && !half.exists());
}

#[test]
fn the_oldest_files_are_deleted_and_others_stay() {
    let place = directory();
    let files: Vec<_> =
        (0..4).map(|_| place.path().join(&write(place.path(), None, 1, MAX_FILE)[0])).collect();
    let other = place.path().join("bucket/notes.txt");
    fs::write(&other, [0; 100_000]).unwrap();
    let now = SystemTime::now();
    for (age, path) in [4, 3, 2, 1].into_iter().zip(&files) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(now - Duration::from_secs(age * 3600)).unwrap();
    }
    let size = fs::metadata(&files[0]).unwrap().len();
    let two = Keep { bytes: size * 2 + size / 2, age: None };
    assert_eq!(retain(place.path(), two, now).unwrap().files, 2);
    let are_there = || files.iter().map(|path| path.exists()).collect::<Vec<_>>();
    assert_eq!(are_there(), [false, false, true, true]);
    let young = Keep { bytes: u64::MAX, age: Some(Duration::from_secs(5400)) };
    assert_eq!(retain(place.path(), young, now).unwrap().files, 1);
    assert_eq!(are_there(), [false, false, false, true]);
    assert!(other.exists());
}

#[test]
fn a_directory_that_cannot_be_read_keeps_no_file() {
    let place = directory();
    let path = place.path().join(&write(place.path(), None, 1, MAX_FILE)[0]);
    // Its path is too long for any call.
    let long = "a".repeat(250);
    let mut above = File::open(place.path()).unwrap();
    for _ in 0..20 {
        mkdirat(&above, &*long, Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        above = openat(&above, &*long, flags, Mode::empty()).unwrap().into();
    }
    let error = retain(place.path(), Keep { bytes: 0, age: None }, SystemTime::now()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    assert!(!path.exists());
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing() {
    let place = directory();
    let taken = place.path().join("taken");
    fs::write(&taken, "").unwrap();
    let plan = Plan::new(&settings(None)).unwrap();
    let Destination::Files(bucket) = &plan.destination else { panic!("{plan:?}") };
    let id = FlowLogId::random().unwrap();
    let layout = Layout { directory: &taken, bucket, identity: &Identity::default(), id: &id };
    let records = records(|to| to.add(ETH0, START, accepted(1)), Bounds::default(), Traffic::All);
    let (written, result) = layout.write(START / 1000, &plan.format, &records, MAX_FILE);
    assert!(written.is_empty() && result.is_err(), "{result:?}");
}

#[test]
fn records_are_fields_in_the_journal() {
    let place = directory();
    let path = place.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let records = records(|to| to.add(ETH0, START, accepted(1)), Bounds::default(), Traffic::All);
    let id = FlowLogId::random().unwrap();
    let format = "${srcport} ${action}".parse().unwrap();
    // A line break in a name makes no field.
    let (sent, result) = journald::send(&path, "flows\nPRIORITY=0", &id, &format, &records);
    result.unwrap();
    assert_eq!(sent, 1);
    let mut message = [0; 4096];
    let length = journal.recv(&mut message).unwrap();
    let text = String::from_utf8_lossy(&message[..length]).into_owned();
    let expected = format!(
        "MESSAGE=1 ACCEPT\nPRIORITY=6\nSYSLOG_IDENTIFIER=secgroup-flow-log\n\
         SECGROUP_LOG_GROUP=flowsPRIORITY=0\nSECGROUP_FLOW_LOG_ID={id}\nSECGROUP_INTERFACE_ID={ETH0}\n\
         SECGROUP_LOG_STATUS=OK\nSECGROUP_ACTION=ACCEPT\n"
    );
    assert_eq!(text, expected);
    let (sent, result) = journald::send(&place.path().join("none"), "g", &id, &format, &records);
    assert!(sent == 0 && result.unwrap_err().to_string().contains("none"));
}
