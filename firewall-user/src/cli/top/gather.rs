//! The thread that reads, so that keys never wait for a large flow table.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::sample::{CounterSample, FlowSample, Sample};
use crate::cli::Context;
use crate::config::{Config, Paths};
use crate::control::{Control, NothingAttached};
use crate::dataplane::tables::maps::Maps;
use crate::model::Model;
use crate::observe::flows::{Place, Poller};
use crate::observe::journal::{self, Entry, Follow, Reader};

/// Records that are shown from before the start.
const EARLIER: usize = 100;

/// Records of one reading: more than a screen has.
const BATCH: usize = 4096;

pub(super) type Samples = Receiver<Sample>;

struct Gatherer {
    paths: Paths,
    config: Config,
    begun: Instant,
    poller: Poller,
    follow: Option<Follow>,
}

/// Begins to read.
pub(super) fn start(context: &Context, interval: Duration) -> Samples {
    let (to, samples) = sync_channel(1);
    let gatherer = Gatherer {
        paths: context.paths.clone(),
        config: context.config,
        begun: Instant::now(),
        poller: Poller::default(),
        follow: None,
    };
    thread::spawn(move || gatherer.run(interval, &to));
    samples
}

impl Gatherer {
    fn run(mut self, interval: Duration, to: &SyncSender<Sample>) {
        // Ends when the screen does.
        while to.send(self.sample()).is_ok() {
            thread::sleep(interval);
        }
    }

    fn sample(&mut self) -> Sample {
        let mut sample = Sample { at: self.begun.elapsed(), ..Sample::default() };
        for read in [Self::read_kernel, Self::read_journal] {
            if let Err(error) = read(self, &mut sample) {
                let text = format!("{error:#}");
                sample.error =
                    Some(sample.error.map_or(text.clone(), |one| format!("{one}; {text}")));
            }
        }
        for record in &sample.records {
            sample.names.add(&record.into());
        }
        sample
    }

    fn read_kernel(&mut self, sample: &mut Sample) -> Result<()> {
        let control = Control::open_read_only(&self.paths, self.config)?;
        let model = control.model()?;
        sample.names.add_model(&model);
        let maps = control.maps()?.ok_or(NothingAttached)?;
        sample.counters = counters(&maps, &model)?;
        let poll = self.poller.poll_attached(&control, &model)?;
        sample.flows = poll.changes.iter().filter_map(FlowSample::new).collect();
        Ok(())
    }

    fn read_journal(&mut self, sample: &mut Sample) -> Result<()> {
        if self.follow.is_none() {
            let reader = Reader::open(&journal::directory(&self.paths.state_dir))?;
            sample.records = reader.last(EARLIER, |_| true)?;
            let newest = sample.records.last().map_or(0, |record| record.id);
            self.follow = Some(reader.follow(Some(newest))?);
        }
        let Some(follow) = &mut self.follow else { return Ok(()) };
        let missed = follow.missed();
        for entry in follow.read(BATCH)? {
            match entry {
                Entry::Record(record) => sample.records.push(*record),
                Entry::Account { account } => sample.lost += account.lost,
            }
        }
        sample.lost += follow.missed() - missed;
        Ok(())
    }
}

fn counters(maps: &Maps, model: &Model) -> Result<Vec<CounterSample>> {
    let mut counters = Vec::new();
    for interface in model.interfaces.values() {
        let place = Arc::new(Place::new(interface));
        for ((direction, reason), counter) in maps.counters(interface.slot)? {
            if counter.packets > 0 {
                counters.push(CounterSample {
                    place: Arc::clone(&place),
                    direction,
                    reason,
                    packets: counter.packets,
                    bytes: counter.bytes,
                });
            }
        }
    }
    Ok(counters)
}
