//! The collector: takes the records of the kernel program out of their ring buffer, says of each what the policy that
//! decided had to say, and writes it to the journal. One process at a time does it for an instance: `serve`, or
//! a command that looks while no `serve` runs.
//!
//! Nothing is recorded in the kernel unless someone collects: the collector renews each second what ends by itself a
//! few seconds later, so that one that was killed leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use firewall_ebpf::abi::reason::{Reason, Verdict, verdict};
use firewall_ebpf::abi::record::{Key, Record, SELF_TEST};

use self::account::{Account, Accounts};
use self::convert::{Moment, convert};
use self::hub::Hub;
use self::policies::Policies;
use crate::clock::Clocks;
use crate::config::{Config, Paths};
use crate::control::Control;
use crate::dataplane::records::{self, Flush, Ring, Watch};
use crate::dataplane::tables::clock;
use crate::dataplane::tables::maps::Maps;
use crate::journal as messages;
use crate::observe::journal::{self, JournalError, Writer};
use crate::observe::record::PacketRecord;

pub mod account;
mod convert;
mod counting;
pub mod hub;
mod policies;

/// Time between two rounds, in which records of packets that were aggregated are written.
const ROUND: Duration = Duration::from_secs(1);

/// For how long the kernel program goes on after the last round.
const WATCH_TIME: Duration = Duration::from_secs(5);

/// The longest time until it is noticed that the collector is to end.
const PATIENCE: Duration = Duration::from_millis(250);

/// The pause after records were read: they come in batches, so that a thousand a second wake the process fifty times.
const PAUSE: Duration = Duration::from_millis(20);

/// How often, a [`PAUSE`] apart, a change that is being made is waited for, and the time until that is done again.
const ATTEMPTS: u32 = 10;
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The time until it is asked again which blocks there are.
const ASK_BLOCKS: Duration = Duration::from_millis(50);

/// Records that are read at once, and at most between two pauses: 5,000 a second. The kernel writes about a thousand a
/// second for each interface and kind of packet; beyond what is read the ring buffer fills, and what has no room is
/// counted as lost.
const BATCH: usize = 100;

/// More than the ring buffer holds at a time.
const MOST_BATCHES: usize = 100;

/// Rounds between two tests of the way through the kernel.
const SELF_TEST_ROUNDS: u64 = 10;

/// Rounds between two accounts in the journal, if there is something to tell.
const ACCOUNT_ROUNDS: u64 = 10;

/// Milliseconds after which an account is written that says that there was nothing: the journal tells by it what was
/// watched.
const QUIET: i64 = 60_000;

/// Time after which an error that persists is reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(600);

/// The time in a round that nearest misses are looked for, so that a flood of different packets that no rule of
/// thousands allows does not take the CPU. Later records of the round have none.
const NEAREST_TIME: Duration = Duration::from_millis(50);

/// Collects; see the [module](self).
pub struct Collector {
    paths: Paths,
    config: Config,
    hub: Arc<Hub>,
    journal: Writer,
    policies: Policies,
    /// Where the kernel's records are; `None` while nothing is attached.
    source: Option<Source>,
    /// By slot: whose packets are counted, and the kernel's counters when they were last read.
    counters: BTreeMap<u16, Counters>,
    accounts: [Accounts; 2],
    /// What is in the journal of [`Self::accounts`], and since when.
    told: (i64, Account),
    /// Records that could not be written, and packets in them, since then.
    unwritten: Account,
    /// Whether there were records since the last round.
    has_written: bool,
    /// When the first and the last packet came of the records that an earlier collector left in the ring buffer.
    left: Option<(i64, i64)>,
    /// Why something could not be written to the journal when that failed last.
    write_error: Option<String>,
    /// Another process has the journal now.
    is_displaced: bool,
    rounds: u64,
    nearest_left: Duration,
    /// When policies were last asked for because of a record, and there was none of its generation.
    asked: Option<Instant>,
    /// When policies and blocks were last asked for because of a record.
    asked_blocks: Option<Instant>,
    /// When jiffies and the wall clock were read last.
    moment: Option<Moment>,
    /// The error that was reported last, and when.
    reported: Option<(String, Instant)>,
}

/// Which packets are recorded: an index of [`records::Account::seen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Drops = 0,
    Passes = 1,
}

impl Kind {
    const fn of(reason: u8) -> Self {
        match verdict(reason as u32) {
            Verdict::Drop => Self::Drops,
            Verdict::Pass => Self::Passes,
        }
    }
}

struct Source {
    maps: Maps,
    ring: Ring,
}

struct Counters {
    interface: String,
    last: records::Account,
}

impl Collector {
    /// Takes the journal. Fails if another process has it, which then collects.
    ///
    /// # Errors
    /// The journal cannot be opened for writing.
    pub fn open(paths: &Paths, config: Config, hub: Arc<Hub>) -> Result<Self> {
        let journal =
            Writer::open(&journal::directory(&paths.state_dir), config.records.journal_size())?;
        hub.update(|state| state.is_collecting = true);
        let mut this = Self {
            paths: paths.clone(),
            config,
            hub,
            journal,
            policies: Policies::default(),
            source: None,
            counters: BTreeMap::new(),
            accounts: Default::default(),
            told: (Clocks::now().moment.wall, Account::default()),
            unwritten: Account::default(),
            has_written: false,
            left: None,
            write_error: None,
            is_displaced: false,
            rounds: 0,
            nearest_left: NEAREST_TIME,
            asked: None,
            asked_blocks: None,
            moment: None,
            reported: None,
        };
        this.take_over();
        this.tell_state(None);
        Ok(this)
    }

    /// Ends what an earlier collector may have left: its last records are written. What it had lost is not known; its
    /// journal says so.
    fn take_over(&mut self) {
        let done = self.find_source().and_then(|()| {
            let Some(Source { maps, .. }) = &self.source else { return Ok(()) };
            unwatch(maps)?;
            // Once for the names of the interfaces, and again for what is counted from now on.
            self.start_counters()?;
            self.flush()?;
            self.drain(false)?;
            self.start_counters()
        });
        self.note(done);
        if let Some((from, to)) = self.left.take() {
            // Of a time before this collector's own, in which more may have been lost than is known.
            let done = self.write_account(from, to, true);
            self.note(done);
        }
    }

    /// Collects until `is_over` says so, which is asked at least every quarter of a second; then writes what is left.
    pub fn run(mut self, mut is_over: impl FnMut() -> bool) {
        let mut next = Instant::now();
        while !is_over() && !self.is_displaced {
            if Instant::now() >= next {
                let done = self.round();
                self.note(done);
                next = Instant::now() + ROUND;
            }
            let left = next.saturating_duration_since(Instant::now()).min(PATIENCE);
            let read = match &self.source {
                Some(source) if source.ring.wait(left) => self.read(true),
                Some(_) => Ok(0),
                None => {
                    thread::sleep(left);
                    Ok(0)
                }
            };
            if matches!(read, Ok(1..)) {
                thread::sleep(PAUSE);
            }
            self.note(read.map(|_| ()));
        }
        let done = self.finish();
        self.note(done);
        self.hub.update(|state| (state.is_collecting, state.problem) = (false, None));
    }

    /// One round: where to write, and what there is to write. The one is told also if the other fails.
    fn round(&mut self) -> Result<()> {
        let kept = self.journal.keep();
        self.is_displaced = matches!(kept, Err(JournalError::Busy { .. }));
        let kept = kept.map_err(anyhow::Error::from);
        let done = self.look();
        self.tell_state(kept.as_ref().err().map(|error| format!("{error:#}")));
        self.has_written = false;
        kept.and(done)
    }

    /// Which interfaces there are, what their policies say, and what the kernel has counted.
    fn look(&mut self) -> Result<()> {
        self.nearest_left = NEAREST_TIME;
        self.find_source()?;
        self.count()?;
        let Some(Source { maps, .. }) = &self.source else { return Ok(()) };
        let slots: Vec<u16> = self.counters.keys().copied().collect();
        let watch = Watch { drops: true, passes: self.hub.wants_passes() };
        records::watch(maps, &slots, watch, WATCH_TIME)?;
        let self_test = self.rounds.is_multiple_of(SELF_TEST_ROUNDS);
        records::flush(maps.pins(), Flush { self_test, all: false })?;
        self.drain(true)?;
        self.rounds += 1;
        if self.rounds.is_multiple_of(ACCOUNT_ROUNDS) {
            self.tell_account(QUIET)?;
        }
        if !self.has_written {
            self.journal.rest()?;
        }
        Ok(())
    }

    /// Writes everything that is left, and stops the recording.
    fn finish(&mut self) -> Result<()> {
        // One step that fails keeps no other from being made.
        let mut done = self.find_source();
        done = done.and(self.source.as_ref().map_or(Ok(()), |source| unwatch(&source.maps)));
        done = done.and(self.flush());
        done = done.and(self.drain(true));
        done = done.and(self.count());
        self.end_pending();
        done = done.and(self.tell_account(0));
        self.tell_state(None);
        done
    }

    /// Counts as lost what maps that are gone still had.
    fn end_pending(&mut self) {
        for account in self.accounts.iter_mut().flat_map(BTreeMap::values_mut) {
            account.lost += account.pending();
        }
    }

    /// Opens the kernel's maps again, because interfaces come and go, and takes the policies that are new.
    fn find_source(&mut self) -> Result<()> {
        let control = Control::open_read_only(&self.paths, self.config)?;
        let maps = control.maps()?;
        // The maps may be others by now, or gone: what these have told so far is taken first.
        self.drain(true)?;
        self.count()?;
        let Some(maps) = maps else {
            self.end_pending();
            self.source = None;
            return Ok(());
        };
        self.policies.refresh(&control, &maps)?;
        let ring = Ring::open(control.pins())?;
        self.source = Some(Source { maps, ring });
        Ok(())
    }

    /// Takes the policies that have become active since the last round: a packet has met one of them. The store is
    /// ahead of the kernel until the command that changes it has ended, which is waited for.
    fn ask_for_policies(&mut self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some(Source { maps, .. }) = &self.source else { break };
            let control = Control::open_read_only(&self.paths, self.config)?;
            if self.policies.refresh(&control, maps)? {
                break;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        match &self.source {
            Some(Source { maps, .. }) => {
                records::flush(maps.pins(), Flush { self_test: false, all: true })?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the records out of the ring buffer that are there now. `counts`: the kernel has counted them as seen since
    /// this collector began; else they are counted here.
    fn drain(&mut self, counts: bool) -> Result<()> {
        for _ in 0..MOST_BATCHES {
            if self.read(counts)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Takes some records out of the ring buffer; returns how many.
    fn read(&mut self, counts: bool) -> Result<usize> {
        let Some(Source { ring, .. }) = &mut self.source else { return Ok(0) };
        let records = ring.read(BATCH)?;
        if records.is_empty() {
            return Ok(0);
        }
        let has_passed =
            |asked: Option<Instant>, time| asked.is_none_or(|when| when.elapsed() > time);
        let is_new = records.iter().any(|one| self.is_new(one));
        // The counter of a block that is gone is given to the next one, under the same policy.
        let is_blocked = records.iter().any(|one| one.key.reason == Reason::Blocked as u8);
        if is_new && has_passed(self.asked, ASK_AGAIN)
            || is_blocked && has_passed(self.asked_blocks, ASK_BLOCKS)
        {
            let done = self.ask_for_policies();
            self.note(done);
            let is_unknown = records.iter().any(|one| self.is_new(one));
            self.asked = is_unknown.then(Instant::now);
            self.asked_blocks = Some(Instant::now());
        }
        let clocks = Clocks::now().moment;
        // The records are out of the ring buffer: whatever fails now, each is counted. After the last detach there is no
        // program that reads the clock, and what was read before is as good.
        let moment = match (self.jiffies(), self.moment) {
            (Ok(jiffies), earlier) => Moment::new(clocks, jiffies, clock::hz(), earlier),
            (Err(_), Some(earlier)) => earlier.at(clocks),
            (Err(error), None) => {
                self.note(Err(error));
                Moment::new(clocks, 0, clock::hz(), None)
            }
        };
        self.moment = Some(moment);
        for record in &records {
            self.take(record, moment, counts);
        }
        Ok(records.len())
    }

    /// Whether what decided about a packet is not known: the policy by which no rule allowed it, or the block or entry
    /// that dropped it. A block changes no policy, so that its number alone tells that it is new.
    fn is_new(&self, record: &Record) -> bool {
        let Key { slot, generation, reason, decided_by, .. } = record.key;
        match Reason::from_number(reason) {
            Some(Reason::NoRule) => !self.policies.knows(slot, generation),
            Some(Reason::Acl | Reason::Blocked) => {
                decided_by != 0 && !self.policies.names(slot, generation, decided_by)
            }
            _ => false,
        }
    }

    fn jiffies(&self) -> Result<u64> {
        let Some(Source { maps, .. }) = &self.source else { return Ok(0) };
        Ok(clock::now(maps.pins(), maps)?)
    }

    fn take(&mut self, raw: &Record, moment: Moment, counts: bool) {
        if raw.key.flags & SELF_TEST != 0 {
            self.hub.update(|state| state.self_test = Some(Clocks::now().moment.wall));
            return;
        }
        let (slot, generation) = (raw.key.slot, raw.key.generation);
        let began = Instant::now();
        let with_nearest = !self.nearest_left.is_zero();
        let snapshot = self.policies.of(slot, generation);
        let record = snapshot.and_then(|known| convert(raw, known, moment, with_nearest));
        self.nearest_left = self.nearest_left.saturating_sub(began.elapsed());
        let kind = Kind::of(raw.key.reason);
        self.has_written = true;
        let written = match record {
            // Of an interface that has been detached for longer than snapshots are kept.
            None => return self.lose(slot, kind, raw.packets, counts),
            Some(record) if kind == Kind::Drops => {
                let id = self.journal.append(record.clone());
                if id.is_ok() {
                    self.write_error = None;
                }
                id.map(|id| PacketRecord { id, ..record })
            }
            Some(record) => Ok(record),
        };
        match written {
            Ok(record) => {
                let account = self.account(slot, kind);
                account.keep(raw.packets);
                if !counts {
                    account.seen += raw.packets;
                    let (from, to) = self.left.unwrap_or((record.first, record.last));
                    self.left = Some((from.min(record.first), to.max(record.last)));
                }
                self.hub.publish(&Arc::new(record));
            }
            Err(error) => {
                self.lose(slot, kind, raw.packets, counts);
                // The journal counts what it could not write.
                self.unwritten.keep(raw.packets);
                self.hub.update(|state| state.unwritten += 1);
                let error = anyhow::Error::from(error);
                self.write_error = Some(format!("{error:#}"));
                self.note(Err(error));
            }
        }
    }

    /// Reports an error, and the same again after a while only.
    fn note(&mut self, done: Result<()>) {
        let Err(error) = done else { return };
        let error = format!("{error:#}");
        let is_known =
            |(known, when): &(String, Instant)| *known == error && when.elapsed() < REPORT_AGAIN;
        if !self.reported.as_ref().is_some_and(is_known) {
            messages::report(format_args!("record dropped packets: {error}"));
            self.reported = Some((error, Instant::now()));
        }
    }
}

fn unwatch(maps: &Maps) -> Result<()> {
    let slots: Vec<u16> =
        (0..maps.sizes.interfaces).filter_map(|slot| slot.try_into().ok()).collect();
    Ok(records::watch(maps, &slots, Watch::default(), Duration::ZERO)?)
}
