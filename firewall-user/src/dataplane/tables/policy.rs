//! Writing policies: into tables that no packet uses, which one word then makes active.

use firewall_ebpf::abi::policy::{Active, Half, index};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::sys::entries;
use crate::dataplane::tables::active::{Word, set_active, set_words};
use crate::dataplane::tables::bank::{self, ActiveBank, Bank, Place, RawRecord, Record, Table};
use crate::dataplane::tables::blocks::BlockShadow;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::probe::{Program, probe};
use crate::policy::delta::{self, Delta, Room, Writes};
use crate::policy::{InternedPolicy, PolicyInterner, Probe};

/// A policy that is in the kernel but not active.
#[derive(Debug)]
#[must_use = "a shadow does nothing until it is flipped"]
pub struct Shadow {
    slot: u16,
    active: Active,
    /// Whether a policy was active when this was written.
    replaces: bool,
    /// The tables; `None` where only the word differs from the active one.
    written: Option<Written>,
}

/// The tables of a policy that is not active yet.
#[derive(Debug)]
struct Written {
    digest: u64,
    room: Room,
    bank: Bank,
    /// The writes that make the other half equal, of a change within the active bank; `None` for a
    /// policy in a bank of its own.
    after: Option<Writes>,
}

/// The writes that a policy requires.
#[derive(Debug)]
#[must_use = "a plan changes nothing until it is written"]
pub struct Plan {
    current: Active,
    what: Planned,
}

#[derive(Debug)]
enum Planned {
    /// The policy is there: another word is enough.
    Word,
    /// The differences, within the active bank.
    Within(Box<(Bank, Delta)>),
    /// The whole policy, into the other bank.
    Whole,
}

/// What the active word of an interface says besides its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Whether drops are only counted.
    pub audit: bool,
    /// Whether its packets are subject to the blocks of the host.
    pub blocks: bool,
    /// The number of its filter, if it has one.
    pub filter: Option<u16>,
}

impl Flags {
    const fn of(self, word: Active) -> Active {
        word.with_audit(self.audit).with_blocks(self.blocks).with_filter(self.filter)
    }
}

/// A policy for an interface.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The interface.
    pub slot: u16,
    /// The interner that the policies were compiled with.
    pub interner: &'a PolicyInterner,
    /// Its policy.
    pub policy: &'a InternedPolicy,
    /// The active policy, if it is known: what does not differ from it is not written again.
    pub known: Option<&'a InternedPolicy>,
    /// What the word says besides.
    pub flags: Flags,
}

/// The upper half of a digest: the policy's generation in the active word, and in the flows that it
/// admits.
fn generation(digest: u64) -> u32 {
    u32::try_from(digest >> 32).unwrap_or(0)
}

fn active(tables: Half, wanted: &Wanted<'_>) -> Active {
    let Wanted { interner, policy, flags, .. } = wanted;
    flags.of(Active::new(tables, interner.contents(policy), generation(policy.digest())))
}

impl Plan {
    /// Whether tables are written.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self.what, Planned::Word)
    }
}

impl Shadow {
    /// Whether it has tables of its own, and not only another word.
    #[must_use]
    pub const fn has_tables(&self) -> bool {
        self.written.is_some()
    }

    /// The tables of a bank of its own.
    fn fresh(&self) -> Option<&Written> {
        self.written.as_ref().filter(|written| written.after.is_none())
    }
}

impl Maps {
    /// The word of a slot's active policy.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn active(&self, slot: u16) -> Result<Active> {
        Ok(Active(self.active.get(&u32::from(slot), 0).context("read map ACTIVE")?))
    }

    /// Whether this policy is active already, with the same flags.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn is_current(&self, wanted: &Wanted<'_>) -> Result<bool> {
        let word = self.active(wanted.slot)?;
        Ok(word == active(word.tables(), wanted) && self.is_active(wanted.slot, wanted.policy)?)
    }

    /// Whether both halves of the active bank hold this policy, and its tables are there. Not after a
    /// process was killed during a change.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn is_complete(&self, wanted: &Wanted<'_>) -> Result<bool> {
        let tables = self.active(wanted.slot)?.tables();
        let digests = self.record(tables)?.digests;
        Ok(digests == [wanted.policy.digest(); 2]
            && Bank::open(&self.pins, Place::Bank(wanted.slot, tables.bank))?.is_some())
    }

    /// Whether this policy is active on a slot, in either mode: its whole digest is compared.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn is_active(&self, slot: u16, policy: &InternedPolicy) -> Result<bool> {
        let word = self.active(slot)?;
        let tables = word.tables();
        let digests = self.record(tables)?.digests;
        Ok(word.is_present() && digests[usize::from(tables.half != 0)] == policy.digest())
    }

    fn record(&self, tables: Half) -> Result<Record> {
        Ok(self.banks.get(&tables.index(), 0).context("read map BANKS")?.into())
    }

    /// Refuses a slot for which the maps have no room: they were created for fewer interfaces.
    ///
    /// # Errors
    /// There is no room.
    pub fn require_room(&self, slot: u16) -> Result<()> {
        let (needed, limit) = (u32::from(slot) + 1, self.sizes.interfaces);
        if needed <= limit {
            return Ok(());
        }
        Err(DataplaneError::new(
            format!("maps: created for {limit} interfaces, {} fewer than needed", needed - limit),
            "their size is fixed until `secgroup detach --all`; the next attach creates them with the \
             configured size",
        ))
    }

    /// Plans the writes of a policy: its differences from the active one, if that is known and its bank
    /// has room, else the whole policy.
    ///
    /// # Errors
    /// The maps have no room for the slot, or the active tables cannot be read.
    pub fn plan(&self, wanted: &Wanted<'_>) -> Result<Plan> {
        self.require_room(wanted.slot)?;
        let current = self.active(wanted.slot)?;
        let what = if !current.is_present() {
            Planned::Whole
        } else if self.is_active(wanted.slot, wanted.policy)? && self.is_complete(wanted)? {
            Planned::Word
        } else {
            let delta = self.delta(wanted, current.tables())?;
            delta.map_or(Planned::Whole, |delta| Planned::Within(Box::new(delta)))
        };
        Ok(Plan { current, what })
    }

    /// Writes a policy where no packet uses it yet: the differences into the other half of the active
    /// bank, or the whole policy into the other bank; nothing where another word is enough. `progress` is
    /// called with the size of every batch of entries.
    ///
    /// # Errors
    /// The kernel refuses a map or an entry; the active policy stays active.
    pub fn shadow(
        &mut self,
        wanted: &Wanted<'_>,
        plan: Plan,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Shadow> {
        let Plan { current, what } = plan;
        let (slot, tables, digest) = (wanted.slot, current.tables(), wanted.policy.digest());
        let replaces = current.is_present();
        match what {
            Planned::Word => {
                Ok(Shadow { slot, active: active(tables, wanted), replaces, written: None })
            }
            Planned::Within(within) => {
                let (bank, delta) = *within;
                let half = Half { half: 1 - tables.half, ..tables };
                let room = delta.room;
                let mut record = Record { digests: self.record(tables)?.digests, room };
                // A process that is killed while it writes leaves a half that no later change relies on.
                record.digests[usize::from(half.half != 0)] = 0;
                self.set_record(&bank, record)?;
                bank.write(&delta.before, progress)?;
                record.digests[usize::from(half.half != 0)] = digest;
                self.set_record(&bank, record)?;
                let active = active(half, wanted);
                let written = Some(Written { digest, room, bank, after: Some(delta.after) });
                Ok(Shadow { slot, active, replaces, written })
            }
            Planned::Whole => {
                let number = if replaces { 1 - tables.bank } else { 0 };
                let (bank, room) = Bank::create(
                    &self.pins,
                    Place::Bank(slot, number),
                    &wanted.interner.extract(wanted.policy),
                    progress,
                )?;
                self.set_record(&bank, Record { digests: [digest; 2], room })?;
                let active = active(Half { slot, bank: number, half: 0 }, wanted);
                let written = Some(Written { digest, room, bank, after: None });
                Ok(Shadow { slot, active, replaces, written })
            }
        }
    }

    /// The changes within the active bank; `None` unless both of its halves hold the known policy, it has
    /// room, and the whole policy would be more to write.
    fn delta(&self, wanted: &Wanted<'_>, tables: Half) -> Result<Option<(Bank, Delta)>> {
        let Some(known) = wanted.known else { return Ok(None) };
        let record = self.record(tables)?;
        if record.digests != [known.digest(); 2] {
            return Ok(None);
        }
        let Some(bank) = Bank::open(&self.pins, Place::Bank(wanted.slot, tables.bank))? else {
            return Ok(None);
        };
        let active = ActiveBank { bank: &bank, tables, room: record.room };
        let delta = delta::plan(wanted.interner, known, wanted.policy, &active)?;
        Ok(delta.map(|delta| (bank, delta)))
    }

    fn set_record(&mut self, bank: &Bank, record: Record) -> Result<()> {
        self.banks.set(bank.index(), RawRecord::from(record), 0).context("write map BANKS")
    }

    /// Makes shadows known to the kernel programs, so that they can be probed; none is active.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn publish(&self, shadows: &[&Shadow]) -> Result<()> {
        let fresh = shadows.iter().filter_map(|shadow| shadow.fresh());
        self.set_outer_maps(fresh.map(|written| (written.bank.index(), &written.bank)))
    }

    /// The kernel program's results of probes with a shadow's tables.
    ///
    /// # Errors
    /// The pinned programs cannot be run.
    pub fn probe(&self, shadow: &Shadow, probes: &[Probe]) -> Result<Vec<(Probe, Option<u32>)>> {
        probe(&self.pins, Program::Policy, shadow.active.0, probes)
    }

    /// Makes a published shadow active, in audit mode until it is flipped: every packet passes. For an
    /// interface that has no policy yet.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn stage_pass_all(&mut self, shadow: &Shadow) -> Result<()> {
        let word = shadow.active.with_audit(true);
        set_active(&self.pins, &[(shadow.slot, word)])
    }

    /// Switches a slot's policy to audit mode: every packet passes from now on. For programs that can
    /// only be detached one after the other.
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn pass_all(&mut self, slot: u16) -> Result<()> {
        let word = self.active(slot)?.with_audit(true);
        if !word.is_present() {
            return Ok(());
        }
        set_active(&self.pins, &[(slot, word)])
    }

    /// Makes published shadows active: one store of the active word each, so that every packet is
    /// evaluated by the old policy and filter or by the new ones. New blocks are in force before that, and
    /// the last ones until then. Then releases what was replaced.
    ///
    /// # Errors
    /// A write fails: the remaining policies stay as they were.
    pub fn flip(&mut self, shadows: Vec<Shadow>, blocks: Option<BlockShadow>) -> Result<()> {
        self.activate(&shadows, blocks.as_ref())?;
        self.settle(&shadows, blocks)
    }

    /// The first part of [`Self::flip`]: packets that arrive afterwards meet what is new.
    ///
    /// # Errors
    /// A write fails: the remaining policies stay as they were.
    pub fn activate(&self, shadows: &[Shadow], blocks: Option<&BlockShadow>) -> Result<()> {
        let mut words: Vec<_> =
            shadows.iter().map(|shadow| Word::Active(shadow.slot, shadow.active)).collect();
        if let Some(blocks) = blocks {
            let at = if blocks.blocks_any() { 0 } else { words.len() };
            words.insert(at, Word::Blocking(blocks.word));
        }
        set_words(&self.pins, &words)
    }

    /// The second part of [`Self::flip`]: waits until no packet meets what was replaced, and releases it.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn settle(&mut self, shadows: &[Shadow], blocks: Option<BlockShadow>) -> Result<()> {
        // Nothing to release where no policy was active.
        if !shadows.iter().any(|shadow| shadow.replaces) && blocks.is_none() {
            return Ok(());
        }
        match shadows.iter().find_map(|shadow| shadow.written.as_ref()) {
            Some(written) => self.wait_for_readers(&written.bank)?,
            None => self.synchronize().map(drop)?,
        }
        let mut free = Vec::new();
        for Shadow { slot, replaces, written, .. } in shadows {
            let Some(Written { digest, room, bank, after }) = written else { continue };
            match after {
                Some(after) => bank.write(after, &mut |_| {})?,
                None if *replaces => {
                    let old = Place::Bank(*slot, 1 - bank.number());
                    bank::remove(&self.pins, old)?;
                    // The entries that referred to the old bank refer to the new one, where no packet uses
                    // them, so that the kernel frees the old one.
                    free.push((old.index(), bank));
                }
                None => continue,
            }
            self.set_record(bank, Record { digests: [*digest; 2], room: *room })?;
        }
        self.set_outer_maps(free.into_iter())?;
        if let Some(blocks) = &blocks {
            self.settle_blocks(blocks)?;
        }
        self.free_filters()
    }

    /// Sets entries of the outer maps: all of a map at once, because the kernel waits for RCU readers
    /// after each call.
    pub(super) fn set_outer_maps<'a>(
        &self,
        banks: impl Iterator<Item = (u32, &'a Bank)> + Clone,
    ) -> Result<()> {
        let outer = Table::ALL.map(|table| {
            let entries = banks.clone().map(|(at, bank)| (at, bank.descriptor(table)));
            (table.name(), entries.collect())
        });
        self.set_outer(&outer)
    }

    /// Waits until every program that runs now has ended, so that none uses what was active before.
    /// Setting an inner map makes the kernel wait (`synchronize_rcu` in `maybe_wait_bpf_programs`,
    /// kernel/bpf/syscall.c).
    fn wait_for_readers(&self, bank: &Bank) -> Result<()> {
        let table = Table::Classes;
        entries::put(self.fd(table.name()), &bank.index(), &bank.descriptor(table))
            .context(format!("write map {}", table.name()))
    }

    /// As [`Self::wait_for_readers`], by the tables of any interface; false if no interface has a policy,
    /// so that no program uses any table.
    pub(in crate::dataplane) fn synchronize(&self) -> Result<bool> {
        for slot in 0..self.sizes.interfaces {
            let slot = u16::try_from(slot).unwrap_or(u16::MAX);
            let active = self.active(slot)?;
            if active.is_present()
                && let Some(bank) = Bank::open(&self.pins, Place::Bank(slot, active.tables().bank))?
            {
                return self.wait_for_readers(&bank).map(|()| true);
            }
        }
        Ok(false)
    }

    /// Deactivates a slot's policy and removes it. Packets of no flow are dropped with `no-policy` from
    /// then on, if a program still runs for the slot.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn clear_policy(&mut self, slot: u16) -> Result<()> {
        set_active(&self.pins, &[(slot, Active(0))])?;
        for number in [0, 1] {
            bank::remove(&self.pins, Place::Bank(slot, number))?;
            let at = index(slot, number);
            self.banks.set(at, RawRecord::from(Record::default()), 0).context("write map BANKS")?;
        }
        let banks = [0, 1].map(|number| index(slot, number));
        let outer: Vec<_> =
            Table::ALL.iter().flat_map(|table| banks.map(|at| (table.name(), at))).collect();
        self.clear_outer(&outer)?;
        self.free_filters()
    }

    /// The memory of a slot's policy in bytes; `None` before Linux 6.4.
    ///
    /// # Errors
    /// Its tables cannot be opened.
    pub fn policy_memory(&self, slot: u16) -> Result<Option<u64>> {
        let active = self.active(slot)?;
        let bank = Bank::open(&self.pins, Place::Bank(slot, active.tables().bank))?;
        Ok(bank.and_then(|bank| bank.memory()))
    }
}
