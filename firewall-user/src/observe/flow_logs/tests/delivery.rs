//! Delivery of whole intervals, of a host on which nothing is attached in the kernel.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::config::{Config, Paths};
use crate::control::Control;
use crate::model::{Interface, InterfaceId, Logged};
use crate::observe::flow_logs::delivery::Delivery;
use crate::observe::flow_logs::input::Input;
use crate::observe::flow_logs::packets::{PacketSource, Taken};
use crate::observe::flow_logs::status::{Status, Statuses};
use crate::observe::record::PacketRecord;
use crate::store::Store;

/// Gives its records once.
struct Given(Vec<Arc<PacketRecord>>);

impl PacketSource for Given {
    fn take(&mut self, _: bool) -> Taken {
        Taken {
            records: std::mem::take(&mut self.0),
            collects: Skipped { accepted: true, rejected: true },
            ..Taken::default()
        }
    }
}

/// A host with a flow log of an interface.
struct Host {
    paths: Paths,
    config: Config,
    files: PathBuf,
    eth0: InterfaceId,
    log: FlowLogId,
    _dir: TempDir,
}

impl Host {
    /// `is_stored`: whether the interface is attached, which no kernel has, so that its flows cannot be read.
    fn new(is_stored: bool) -> Self {
        let dir = directory();
        let paths = Paths {
            state_dir: dir.path().join("state"),
            pin_dir: dir.path().join("pins"),
            config: None,
        };
        let mut config = Config::default();
        let files = dir.path().join("files");
        config.flow_logs.directory.clear();
        config.flow_logs.directory.push_str(files.to_str().unwrap());
        let eth0 = InterfaceId::random().unwrap();
        let mut store = Store::open(&paths.state_dir).unwrap();
        let mut change = store.begin().unwrap();
        let groups = change.model().groups.keys().take(1).cloned().collect();
        let new = Interface::new(eth0.clone(), 0, "eth0", Some("none"));
        let attached = Interface { groups, ..new };
        let slot = if is_stored { 0 } else { Interface::FIRST_UNATTACHED };
        let interface = if is_stored { attached } else { attached.without_device(slot) };
        change.put_interface(&interface).unwrap();
        let resource = Logged::Interface(eth0.clone());
        let log = change.create_flow_log(resource, settings(None), Default::default()).unwrap();
        change.commit().unwrap();
        Self { paths, config, files, eth0, log, _dir: dir }
    }

    fn open(&self) -> anyhow::Result<Control> {
        Control::open_read_only(&self.paths, self.config)
    }

    /// One that has these records of its interface.
    fn delivery(&self, records: Vec<PacketRecord>, now: i64) -> Delivery {
        let of = |record| PacketRecord { network_interface_id: self.eth0.to_string(), ..record };
        let records = records.into_iter().map(|record| Arc::new(of(record))).collect();
        Delivery::new(&self.paths.state_dir, Input::new(Box::new(Given(records))), now)
    }

    fn status(&self) -> Status {
        Statuses::read(&self.paths.state_dir).logs.remove(self.log.as_str()).unwrap_or_default()
    }

    /// Every record that was delivered.
    fn delivered(&self) -> Vec<Told> {
        let files = if self.files.is_dir() { find(&self.files).unwrap() } else { Vec::new() };
        let records = files.iter().flat_map(|path| Records::open(path).unwrap());
        let mut told: Vec<_> = records
            .map(Result::unwrap)
            .map(|one| {
                let times = [one.start.unwrap(), one.end.unwrap()].map(|it| it - START / 1000);
                (one.status.unwrap(), one.action, [one.packets, one.bytes], times)
            })
            .collect();
        told.sort_by_key(|(status, .., times)| (*times, *status));
        told
    }
}

/// Status, action, packets and bytes, first and last second.
type Told = (LogStatus, Option<Action>, [Option<u64>; 2], [i64; 2]);

/// Steps every second until a time of seconds after [`START`].
fn run(host: &Host, delivery: &mut Delivery, seconds: std::ops::RangeInclusive<i64>) -> bool {
    let mut failed = 0;
    for second in seconds {
        let step = delivery.step(|| host.open(), &host.config, START + second * 1000);
        failed += u32::from(step.is_err());
    }
    failed == 0
}

const NOTHING: [Option<u64>; 2] = [None, None];

#[test]
fn what_could_not_be_read_is_not_said_to_be_nothing() {
    let host = Host::new(true);
    let mut delivery = host.delivery(vec![PacketRecord::sample(START + 1000, 3)], START);
    assert!(!run(&host, &mut delivery, 0..=63));
    // The record that came is told, without the header of the link, and that others are not known.
    assert_eq!(
        host.delivered(),
        [
            (LogStatus::SkipData, None, NOTHING, [0, 60]),
            (LogStatus::Ok, Some(Action::Reject), [Some(3), Some(180 - 3 * 14)], [1, 1]),
        ]
    );
    // Also in the interval that ends with the process.
    let end = delivery.end(|| host.open(), &host.config, START + 70_000);
    assert!(end.is_err());
    assert_eq!(host.delivered()[2..], [(LogStatus::SkipData, None, NOTHING, [60, 70])]);
    let status = host.status();
    assert_eq!((status.delivered, status.failed, status.until), (3, 0, START + 70_000));
}

#[test]
fn what_was_not_delivered_is_told_when_it_is_delivered_again() {
    let host = Host::new(true);
    let mut delivery = host.delivery(Vec::new(), START);
    fs::write(&host.files, "no directory").unwrap();
    run(&host, &mut delivery, 0..=63);
    let status = host.status();
    assert!(status.error.is_some() && status.name() == "FAILED", "{status:?}");
    let counts = |status: &Status| (status.delivered, status.failed, status.until);
    assert_eq!(counts(&status), (0, 1, START + 60_000));
    assert_eq!(status.missed_since, Some(START));
    run(&host, &mut delivery, 64..=123);
    assert_eq!(host.status().missed_since, Some(START), "since the first one");
    fs::remove_file(&host.files).unwrap();
    run(&host, &mut delivery, 124..=183);
    let status = host.status();
    assert_eq!((status.error.as_deref(), status.missed_since), (None, None));
    assert_eq!(
        host.delivered(),
        [
            (LogStatus::SkipData, None, NOTHING, [0, 120]),
            (LogStatus::SkipData, None, NOTHING, [120, 180]),
        ]
    );
}

#[test]
fn the_time_without_a_process_and_a_jump_of_the_clock_are_told() {
    for (what, before, steps) in [
        ("no process", Some(START - 600_000), &[0..=63][..]),
        ("an hour", None, &[0..=3, 3600..=3663]),
    ] {
        let host = Host::new(true);
        if let Some(until) = before {
            let mut statuses = Statuses::default();
            let status = Status { until, ..Status::default() };
            statuses.logs.insert(host.log.to_string(), status);
            statuses.write(&host.paths.state_dir).unwrap();
        }
        let mut delivery = host.delivery(Vec::new(), START);
        for one in steps {
            run(&host, &mut delivery, one.clone());
        }
        let missed = host.delivered().remove(0);
        let expected = before.map_or([0, 3600], |_| [-600, 0]);
        assert_eq!(missed, (LogStatus::SkipData, None, NOTHING, expected), "{what}");
        assert_eq!(host.status().missed_since, None, "{what}");
    }
}

#[test]
fn an_interval_is_delivered_when_its_records_have_come_and_none_without_an_interface() {
    let host = Host::new(false);
    let mut delivery = host.delivery(Vec::new(), START);
    assert!(run(&host, &mut delivery, 0..=62));
    assert_eq!(host.status().until, START, "records of the interval are under way");
    assert!(run(&host, &mut delivery, 63..=63));
    assert_eq!(host.status().until, START + 60_000);
    assert_eq!(host.delivered(), []);
}
