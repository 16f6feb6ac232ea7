//! Delivers the flow logs: reads flows and records of packets, sums them, and writes the intervals that are over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;

use super::aggregate::{Aggregator, Bounds, Closed, Skipped};
use super::destination::{Destination, Plan};
use super::files::retain::{self, Keep};
use super::files::{Layout, MAX_FILE};
use super::input::Input;
use super::journald;
use super::record::{LogStatus, Origin, Record};
use super::status::Statuses;
use crate::config::Config;
use crate::control::Control;
use crate::journal;
use crate::model::{FlowLog, FlowLogId, Identity, Interface, Logged, Model};
use crate::observe::instance;

/// Time between two readings of the flow tables.
pub const READ_INTERVAL: Duration = Duration::from_secs(5);

/// Milliseconds between two looks whether there is a flow log, while there is none.
const IDLE_INTERVAL: i64 = 1000;

/// How long records of an interval may be under way when it is over: the kernel keeps a count for a second, and writes
/// it when it is read, each second.
const GRACE: i64 = 3000;

/// Milliseconds between two searches for files to delete.
const RETAIN_INTERVAL: i64 = 60_000;

/// Delivers the flow logs of a host.
pub struct Delivery {
    state_dir: PathBuf,
    input: Input,
    /// By seconds of their interval.
    aggregators: BTreeMap<u32, Aggregator>,
    statuses: Statuses,
    /// When the next reading is due.
    next_reading: i64,
    /// When files were last searched for those to delete.
    retained: i64,
    bounds: Bounds,
    /// When it began, in milliseconds since 1970.
    began: i64,
    /// The flow logs whose interfaces have been read once.
    recorded: BTreeSet<FlowLogId>,
}

impl Delivery {
    /// One that begins at a time in milliseconds since 1970. The caller holds the
    /// [`DeliveryLock`](super::status::DeliveryLock) of the state directory.
    #[must_use]
    pub fn new(state_dir: &Path, input: Input, now: i64) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            input,
            aggregators: BTreeMap::new(),
            statuses: Statuses::read(state_dir),
            next_reading: now,
            retained: i64::MIN,
            bounds: Bounds::default(),
            began: now,
            recorded: BTreeSet::new(),
        }
    }

    /// When [`Self::step`] is due, in milliseconds since 1970.
    #[must_use]
    pub fn next(&self) -> i64 {
        let closes = self.aggregators.values().map(|one| one.next_end() + GRACE);
        closes.fold(self.next_reading, i64::min)
    }

    /// Does what is due: reads, and delivers what is over.
    ///
    /// # Errors
    /// The store or the tables in the kernel cannot be read. What they have is read later; that an interval is over
    /// is not forgotten.
    pub fn step(
        &mut self,
        open: impl FnOnce() -> Result<Control>,
        config: &Config,
        now: i64,
    ) -> Result<()> {
        if now < self.next() {
            return Ok(());
        }
        let due = now >= self.next_reading;
        self.schedule(now);
        let control = open()?;
        let model = control.model()?;
        self.follow(&model, now);
        if self.aggregators.is_empty() {
            // The first flow log is not to wait for long.
            self.next_reading = now + IDLE_INTERVAL;
            return Ok(());
        }
        let read = if due { self.read(&control, &model, now) } else { Ok(()) };
        if due && read.is_ok() {
            self.announce(&model);
        }
        if read.is_err() {
            self.skip_all(&model, now);
        }
        self.take_records(&model, now);
        let mut over = Vec::new();
        for (seconds, aggregator) in &mut self.aggregators {
            over.extend(aggregator.close(now - GRACE).into_iter().map(|closed| (*seconds, closed)));
        }
        self.deliver(&model, config, &over, now);
        read
    }

    /// Reads and delivers what there is, also of the interval that is not over.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn end(
        mut self,
        open: impl FnOnce() -> Result<Control>,
        config: &Config,
        now: i64,
    ) -> Result<()> {
        let control = open()?;
        let model = control.model()?;
        self.follow(&model, now);
        if self.aggregators.is_empty() {
            return Ok(());
        }
        let read = self.read(&control, &model, now);
        if read.is_err() {
            self.skip_all(&model, now);
        }
        self.take_records(&model, now);
        let mut over = Vec::new();
        for (seconds, aggregator) in std::mem::take(&mut self.aggregators) {
            over.extend(aggregator.end(now).into_iter().map(|closed| (seconds, closed)));
        }
        self.deliver(&model, config, &over, now);
        read
    }

    /// Flows could not be read: what there was is not known, in this interval and in the one that has just ended.
    fn skip_all(&mut self, model: &Model, now: i64) {
        let all = Skipped { accepted: true, rejected: true };
        for interface in model.interfaces.values() {
            let id = interface.id.to_string();
            for aggregator in self.aggregators.values_mut() {
                aggregator.skip(&id, now - READ_INTERVAL.as_millis() as i64, all);
                aggregator.skip(&id, now, all);
            }
        }
    }

    /// The next reading is at a multiple of its interval, so that one is at the end of each interval.
    const fn schedule(&mut self, now: i64) {
        let interval = READ_INTERVAL.as_millis() as i64;
        self.next_reading = (now.div_euclid(interval) + 1) * interval;
    }

    /// Begins and ends what flow logs need that are new or gone.
    fn follow(&mut self, model: &Model, now: i64) {
        let is_needed =
            |seconds: u32| model.flow_logs.values().any(|log| log.settings.interval == seconds);
        self.aggregators.retain(|seconds, _| is_needed(*seconds));
        if self.aggregators.is_empty() {
            // What happened while there was none is nobody's.
            self.input.reset();
        }
        let mut far = BTreeSet::new();
        self.aggregators.retain(|seconds, aggregator| {
            let is_far = aggregator.is_far_from(now);
            if is_far {
                far.insert(*seconds);
            }
            !is_far
        });
        let mut has_begun = false;
        for log in model.flow_logs.values() {
            let seconds = log.settings.interval;
            let new = || Aggregator::new(seconds, self.bounds, now);
            self.aggregators.entry(seconds).or_insert_with(new);
            let began = self.began;
            let status = self.statuses.logs.entry(log.id.to_string()).or_default();
            if status.until == 0 {
                // It begins now, and a process that is killed leaves until when there is nothing.
                status.until = now;
                has_begun = true;
            }
            // No process was there, or the time jumped.
            let resumed = if far.contains(&seconds) { now } else { began };
            if status.until < resumed {
                status.missed_since.get_or_insert(status.until);
            }
            if status.until < resumed || far.contains(&seconds) {
                status.until = resumed;
            }
        }
        self.statuses.retain(|id| model.flow_logs.keys().any(|log| log.as_str() == id));
        if has_begun {
            self.store_statuses();
        }
    }

    fn store_statuses(&self) {
        if let Err(error) = self.statuses.write(&self.state_dir) {
            journal::report(format_args!("store what became of flow logs: {error}"));
        }
    }

    /// Says which flow logs have records from now on.
    fn announce(&mut self, model: &Model) {
        self.recorded.retain(|id| model.flow_logs.contains_key(id));
        for log in model.flow_logs.values() {
            if self.recorded.insert(log.id.clone()) {
                journal::report(format_args!("flow log {} records {}", log.id, log.resource));
            }
        }
    }

    fn read(&mut self, control: &Control, model: &Model, now: i64) -> Result<()> {
        let (time, found) = self.input.read(control, model, now)?;
        for (interface, packets) in found.packets {
            for aggregator in self.aggregators.values_mut() {
                aggregator.add(&interface, time, packets.clone());
            }
        }
        for (interface, skipped) in found.skipped {
            for aggregator in self.aggregators.values_mut() {
                aggregator.skip(&interface, time, skipped);
            }
        }
        Ok(())
    }

    fn take_records(&mut self, model: &Model, now: i64) {
        let wants_passes = model.flow_logs.values().any(|log| log.settings.traffic != "REJECT");
        let taken = self.input.take(model, wants_passes);
        for (interface, packets) in taken.packets {
            for aggregator in self.aggregators.values_mut() {
                aggregator.add(&interface, packets.last, packets.clone());
            }
        }
        for (interface, skipped) in taken.skipped {
            for aggregator in self.aggregators.values_mut() {
                aggregator.skip(&interface, now - GRACE, skipped);
            }
        }
    }

    fn deliver(&mut self, model: &Model, config: &Config, over: &[(u32, Closed)], now: i64) {
        if over.is_empty() {
            return;
        }
        let directory = Path::new(config.flow_logs.directory.as_str());
        for (seconds, closed) in over {
            for log in model.flow_logs.values().filter(|log| log.settings.interval == *seconds) {
                self.deliver_to(model, config, log, closed);
            }
        }
        if now >= self.retained.saturating_add(RETAIN_INTERVAL) {
            self.retained = now;
            if let Err(error) = retain::retain(directory, keep(config), time(now)) {
                journal::report(format_args!(
                    "delete old files of flow logs in {}: {error}",
                    directory.display()
                ));
            }
        }
        self.store_statuses();
    }

    fn deliver_to(&mut self, model: &Model, config: &Config, log: &FlowLog, closed: &Closed) {
        let status = self.statuses.logs.entry(log.id.to_string()).or_default();
        let mut records = Vec::new();
        let traffic = Plan::new(&log.settings).map(|plan| plan.traffic);
        for interface in model.interfaces.values().filter(|one| is_of(model, log, one)) {
            let origin = Arc::new(origin(model, &config.ec2, interface));
            if let Some(since) = status.missed_since {
                let times = [since, status.until].map(|time| time.div_euclid(1000));
                let origin = Arc::clone(&origin);
                records.push(Record::without_packets(origin, LogStatus::SkipData, times));
            }
            if let Ok(traffic) = traffic {
                records.append(&mut closed.records(&origin, traffic));
            }
        }
        let [_, end] = closed.seconds();
        let (delivered, error) = match Plan::new(&log.settings) {
            Ok(plan) => send(config, &log.id, &plan, end, &records),
            Err(error) => (0, Some(error.to_string())),
        };
        let failed = records.len().saturating_sub(delivered);
        status.delivered += u64::try_from(delivered).unwrap_or(0);
        status.failed += u64::try_from(failed).unwrap_or(0);
        if error.is_some() {
            status.missed_since.get_or_insert(closed.start);
        } else {
            status.missed_since = None;
        }
        status.until = closed.end;
        if status.error != error {
            match &error {
                Some(error) => journal::report(format_args!("flow log {}: {error}", log.id)),
                None => journal::report(format_args!("flow log {} is delivered again", log.id)),
            }
            status.error = error;
        }
    }
}

/// Writes records to their destination; how many were, and why the others were not.
fn send(
    config: &Config,
    id: &FlowLogId,
    plan: &Plan,
    end: i64,
    records: &[Record],
) -> (usize, Option<String>) {
    match &plan.destination {
        Destination::Files(bucket) => {
            let directory = Path::new(config.flow_logs.directory.as_str());
            let layout = Layout { directory, bucket, identity: &config.ec2, id };
            let (written, result) = layout.write(end, &plan.format, records, MAX_FILE);
            let count = written.iter().map(|(_, count)| count).sum();
            (count, result.err().map(|error| error.to_string()))
        }
        Destination::Journal { log_group } => {
            let (sent, result) =
                journald::send(Path::new(journald::SOCKET), log_group, id, &plan.format, records);
            (sent, result.err().map(|error| error.to_string()))
        }
    }
}

/// Whether an interface is one of a flow log's resource.
fn is_of(model: &Model, log: &FlowLog, interface: &Interface) -> bool {
    match &log.resource {
        Logged::Vpc(id) => model.vpc_of(interface) == *id,
        Logged::Subnet(id) => interface.subnet == *id,
        Logged::Interface(id) => interface.id == *id,
    }
}

/// The fields of an interface's records that are the same in all of them.
#[must_use]
pub fn origin(model: &Model, identity: &Identity, interface: &Interface) -> Origin {
    let subnet = model.subnets.get(&interface.subnet);
    let zone = subnet.and_then(|subnet| subnet.settings.zone.clone());
    Origin {
        account_id: identity.account.to_string(),
        interface_id: interface.id.to_string(),
        vpc_id: model.vpc_of(interface).to_string(),
        subnet_id: interface.subnet.to_string(),
        instance_id: instance::id().to_owned(),
        region: identity.region.to_string(),
        az_id: identity.zone_id(&zone.unwrap_or_else(|| identity.zone())),
    }
}

fn keep(config: &Config) -> Keep {
    let days = config.flow_logs.max_age.get();
    Keep {
        bytes: u64::from(config.flow_logs.max_size.get()) << 20,
        age: (days > 0).then(|| Duration::from_secs(u64::from(days) * 86_400)),
    }
}

fn time(milliseconds: i64) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}
