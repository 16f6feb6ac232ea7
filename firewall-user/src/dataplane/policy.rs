//! Policies into the kernel: written where no packet looks, then put in force by one word.

use firewall_ebpf::policy::{Active, Half, index};

use crate::dataplane::bank::{self, Bank, InForce, Note, Record, Table};
use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::maps::Maps;
use crate::dataplane::probe::probe;
use crate::dataplane::sys::entries;
use crate::policy::delta::{self, Delta, Room, Writes};
use crate::policy::{InternedPolicy, PolicyInterner, Probe};

/// A policy that is in the kernel but not in force.
#[derive(Debug)]
#[must_use = "a shadow does nothing until it is flipped"]
pub struct Shadow {
    slot: u16,
    active: Active,
    digest: u64,
    room: Room,
    bank: Bank,
    /// What makes the other half equal, of a change within the bank; else the bank is a new one.
    after: Option<Writes>,
}

/// What there is to write of a policy.
#[derive(Debug)]
#[must_use = "a plan is to be written"]
pub struct Plan {
    current: Active,
    /// What differs, of a change within the bank in force; else everything is to be written.
    within: Option<(Bank, Delta)>,
}

/// A policy for an interface.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The interface.
    pub slot: u16,
    /// What the policies were compiled with.
    pub book: &'a PolicyInterner,
    /// Its policy.
    pub policy: &'a InternedPolicy,
    /// The policy that is in force, if that is known: what stays is not written again.
    pub known: Option<&'a InternedPolicy>,
    /// Whether drops are only counted.
    pub audit: bool,
}

/// The part of a digest that the active word has as the policy's generation.
fn generation(digest: u64) -> u32 {
    u32::try_from(digest >> 32).unwrap_or(0)
}

fn active(tables: Half, wanted: &Wanted<'_>) -> Active {
    let Wanted { book, policy, audit, .. } = wanted;
    Active::new(tables, book.contents(policy), generation(policy.digest())).with_audit(*audit)
}

impl Maps {
    /// The word of a slot's policy in force.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn active(&self, slot: u16) -> Result<Active> {
        Ok(Active(self.active.get(&u32::from(slot), 0).context("read map ACTIVE")?))
    }

    /// Whether the kernel has this very policy in force already.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn is_current(&self, wanted: &Wanted<'_>) -> Result<bool> {
        let word = self.active(wanted.slot)?;
        Ok(word.is_present() && word == active(word.tables(), wanted))
    }

    /// Whether a slot has this policy in force, whatever becomes of what it drops.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn is_in_force(&self, slot: u16, policy: &InternedPolicy) -> Result<bool> {
        let word = self.active(slot)?;
        Ok(word.is_present() && word.generation() == generation(policy.digest()))
    }

    /// Refuses a slot for which the maps have no room: they were made when fewer interfaces were
    /// configured.
    ///
    /// # Errors
    /// There is no room.
    pub fn require_room(&self, slot: u16) -> Result<()> {
        let (needed, limit) = (u32::from(slot) + 1, self.sizes.interfaces);
        if needed <= limit {
            return Ok(());
        }
        Err(DataplaneError::new(
            format!("maps: made for {limit} interfaces, {} fewer than needed", needed - limit),
            "their size is fixed until `secgroup detach --all`; the next attach makes them as the \
             configuration says",
        ))
    }

    /// Finds what a policy makes different: from what the bank in force holds, if that is known and has
    /// room, else everything.
    ///
    /// # Errors
    /// The slot has no room, or the tables in force cannot be read.
    pub fn plan(&self, wanted: &Wanted<'_>) -> Result<Plan> {
        self.require_room(wanted.slot)?;
        let current = self.active(wanted.slot)?;
        let within =
            if current.is_present() { self.delta(wanted, current.tables())? } else { None };
        Ok(Plan { current, within })
    }

    /// Writes a policy where packets do not see it yet: what differs into the other half of the
    /// tables in force, or all of it into the other bank. `progress` hears of every batch of entries.
    ///
    /// # Errors
    /// The kernel refuses a map or an entry; what is in force stays so.
    pub fn shadow(
        &mut self,
        wanted: &Wanted<'_>,
        plan: Plan,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Shadow> {
        let Plan { current, within } = plan;
        let (slot, tables, digest) = (wanted.slot, current.tables(), wanted.policy.digest());
        if let Some((bank, delta)) = within {
            let half = Half { half: 1 - tables.half, ..tables };
            // Until both halves are equal again, nobody may count on them.
            self.note(&bank, Record { digest: 0, room: delta.room })?;
            bank.write(&delta.before, progress)?;
            let active = active(half, wanted);
            let after = Some(delta.after);
            return Ok(Shadow { slot, active, digest, room: delta.room, bank, after });
        }
        let number = if current.is_present() { 1 - tables.bank } else { 0 };
        let (bank, room) =
            Bank::make(&self.pins, (slot, number), &wanted.book.extract(wanted.policy), progress)?;
        self.note(&bank, Record::default())?;
        let active = active(Half { slot, bank: number, half: 0 }, wanted);
        Ok(Shadow { slot, active, digest, room, bank, after: None })
    }

    /// What has to be written into the bank in force, if that is known to hold what it should, and
    /// has room.
    fn delta(&self, wanted: &Wanted<'_>, tables: Half) -> Result<Option<(Bank, Delta)>> {
        let Some(known) = wanted.known else { return Ok(None) };
        let record = self.banks.get(&tables.index(), 0).context("read map BANKS")?;
        let record = Record::from(record);
        if record.digest != known.digest() {
            return Ok(None);
        }
        let Some(bank) = Bank::open(&self.pins, wanted.slot, tables.bank)? else { return Ok(None) };
        let in_force = InForce { bank: &bank, tables, room: record.room };
        let delta = delta::plan(wanted.book, known, wanted.policy, &in_force)?;
        Ok(delta.map(|delta| (bank, delta)))
    }

    fn note(&mut self, bank: &Bank, record: Record) -> Result<()> {
        self.banks.set(bank.index(), Note::from(record), 0).context("write map BANKS")
    }

    /// Makes shadows known to the programs, so that they can be asked about; none is in force.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn publish(&self, shadows: &[&Shadow]) -> Result<()> {
        let fresh = shadows.iter().filter(|shadow| shadow.after.is_none());
        self.refer(fresh.map(|shadow| (shadow.bank.index(), &shadow.bank)))
    }

    /// What the kernel answers with a shadow's tables.
    ///
    /// # Errors
    /// The pinned programs cannot be run.
    pub fn probe(&self, shadow: &Shadow, questions: &[Probe]) -> Result<Vec<(Probe, Option<u32>)>> {
        probe(&self.pins, shadow.active, questions)
    }

    /// Puts a published shadow in force for an interface that has no policy yet, but so that what it
    /// would drop is only counted, until it is flipped.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn try_out(&mut self, shadow: &Shadow) -> Result<()> {
        let word = shadow.active.with_audit(true);
        self.active.set(u32::from(shadow.slot), word.0, 0).context("write map ACTIVE")
    }

    /// Lets everything through an interface from now on: one aligned 8-byte write, for programs that
    /// can only be taken off one after the other.
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn let_through(&mut self, slot: u16) -> Result<()> {
        let word = self.active(slot)?.with_audit(true);
        if !word.is_present() {
            return Ok(());
        }
        self.active.set(u32::from(slot), word.0, 0).context("write map ACTIVE")
    }

    /// Puts published shadows in force: for each one aligned 8-byte write, so that every packet is
    /// judged by the old policy or by the new one. Then lets go of the old ones.
    ///
    /// # Errors
    /// A write fails: the policies before it stay in force.
    pub fn flip(&mut self, shadows: Vec<Shadow>) -> Result<()> {
        let words = shadows.iter().map(|shadow| (u32::from(shadow.slot), shadow.active.0));
        entries::put_all(self.fd("ACTIVE"), words, &mut |_| {}).context("write map ACTIVE")?;
        let Some(first) = shadows.first() else { return Ok(()) };
        self.wait_for_readers(&first.bank)?;
        for shadow in &shadows {
            match &shadow.after {
                Some(after) => shadow.bank.write(after, &mut |_| {})?,
                None => bank::remove(&self.pins, shadow.slot, 1 - shadow.active.tables().bank)?,
            }
            self.note(&shadow.bank, Record { digest: shadow.digest, room: shadow.room })?;
        }
        self.free(shadows.iter().filter(|shadow| shadow.after.is_none()))
    }

    /// Lets the kernel free the banks that these have replaced: what referred to them refers to the
    /// new ones too, and no packet asks there.
    fn free<'a>(&self, shadows: impl Iterator<Item = &'a Shadow> + Clone) -> Result<()> {
        self.refer(shadows.map(|shadow| {
            let tables = shadow.active.tables();
            (index(shadow.slot, 1 - tables.bank), &shadow.bank)
        }))
    }

    /// Sets entries of the outer maps: all of a map at once, because the kernel waits for readers
    /// after each call.
    fn refer<'a>(&self, banks: impl Iterator<Item = (u32, &'a Bank)> + Clone) -> Result<()> {
        for table in Table::ALL {
            let entries = banks.clone().map(|(at, bank)| (at, bank.descriptor(table)));
            entries::put_all(self.fd(table.name()), entries, &mut |_| {})
                .context(format!("write map {}", table.name()))?;
        }
        Ok(())
    }

    /// Waits until no packet looks any more into what was in force before. Setting an inner map makes
    /// the kernel do so (`synchronize_rcu` in `maybe_wait_bpf_programs`, kernel/bpf/syscall.c).
    pub(super) fn wait_for_readers(&self, bank: &Bank) -> Result<()> {
        let table = Table::Classes;
        entries::put(self.fd(table.name()), &bank.index(), &bank.descriptor(table))
            .context(format!("write map {}", table.name()))
    }

    /// Takes a slot's policy out of force and forgets it. Packets of no flow are dropped with
    /// `no-policy` from then on, if a program still runs for the slot.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn clear_policy(&mut self, slot: u16) -> Result<()> {
        self.active.set(u32::from(slot), 0, 0).context("write map ACTIVE")?;
        for number in [0, 1] {
            bank::remove(&self.pins, slot, number)?;
            let at = index(slot, number);
            self.banks.set(at, Note::from(Record::default()), 0).context("write map BANKS")?;
            for table in Table::ALL {
                entries::remove(self.fd(table.name()), &at)
                    .context(format!("clear map {}", table.name()))?;
            }
        }
        Ok(())
    }

    /// Bytes that the policy of a slot takes, as the kernel counts them (Linux 6.4).
    ///
    /// # Errors
    /// Its tables cannot be opened.
    pub fn policy_memory(&self, slot: u16) -> Result<Option<u64>> {
        let active = self.active(slot)?;
        let bank = Bank::open(&self.pins, slot, active.tables().bank)?;
        Ok(bank.and_then(|bank| bank.memory()))
    }
}
