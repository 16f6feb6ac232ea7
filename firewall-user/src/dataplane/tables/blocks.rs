//! The blocks of the whole host: two tries of networks in each of two banks, which all interfaces share.
//!
//! As with the policy of an interface, a value exists twice. A small change writes the half that packets do not
//! use, another one both halves of the other bank; the word `BLOCKING` then selects them.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aya::maps::MapData;
use firewall_ebpf::abi::block::{BLOCK_BANKS, Blocking};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::entries;
use crate::dataplane::sys::memory::memory;
use crate::dataplane::sys::unpin::unpin;
use crate::dataplane::tables::bank::{prefixes, trie};
use crate::dataplane::tables::maps::{BLOCK_RECORDS, Digests, Maps};
use crate::dataplane::tables::probe::{Program, probe};
use crate::policy::Probe;
use crate::policy::blocks::{
    BlockDelta, BlockWrites, BlockedPrefixes, CompiledBlocks, plan_blocks,
};
use crate::policy::delta::PrefixWrites;

/// The outer maps, IPv4 and IPv6.
const OUTER: [&str; 2] = ["BLOCKS_V4", "BLOCKS_V6"];

/// Writes for which no tries of their own are made.
const FEW: usize = 1024;

/// The opened tries of a bank, IPv4 and IPv6.
#[derive(Debug)]
struct Tries {
    bank: u32,
    tries: [MapData; 2],
}

/// Blocks that are in the kernel but not in force.
#[derive(Debug)]
#[must_use = "these blocks are not in force until they are flipped"]
pub struct BlockShadow {
    pub(super) word: Blocking,
    digest: u64,
    /// `None`: nothing is blocked.
    tries: Option<Tries>,
    /// The writes that make the other half equal, of a change within a bank.
    after: Option<BlockWrites>,
}

/// The writes that blocks require.
#[derive(Debug)]
#[must_use = "a plan changes nothing until it is written"]
pub struct BlockPlan {
    /// The differences, of a change within a bank; `None` if everything is written.
    within: Option<(Tries, BlockDelta)>,
    entries: usize,
}

impl BlockPlan {
    /// How many entries are written before the blocks are in force.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Whether everything is written into tries of their own.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.within.is_none()
    }
}

impl BlockShadow {
    /// Whether anything is blocked.
    #[must_use]
    pub const fn blocks_any(&self) -> bool {
        self.tries.is_some()
    }

    /// How many tries were created, for what has to be shown to the kernel programs.
    const fn is_new(&self) -> bool {
        self.tries.is_some() && self.after.is_none()
    }
}

impl Tries {
    /// Creates the tries with these blocks in both halves. No program refers to them yet.
    fn create(
        pins: &Pins,
        bank: u32,
        blocks: &CompiledBlocks,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        remove(pins, bank)?;
        let [v4, v6] = OUTER.map(|name| pins.blocks_table(bank, name));
        let what = |at: usize| format!("create table {} of blocked networks", OUTER[at]);
        trie::<[u8; 4]>().context(what(0))?.pin(v4).context(what(0))?;
        trie::<[u8; 16]>().context(what(1))?.pin(v6).context(what(1))?;
        let tries = Self::open(pins, bank)?.ok_or_else(|| {
            DataplaneError::new("tables of blocked networks: removed meanwhile", "try again")
        })?;
        let writes = BlockWrites { v4: all(&blocks.v4), v6: all(&blocks.v6) };
        tries.write(&writes, progress)?;
        Ok(tries)
    }

    /// Opens the tries; `None` if one does not exist.
    fn open(pins: &Pins, bank: u32) -> Result<Option<Self>> {
        let paths = OUTER.map(|name| pins.blocks_table(bank, name));
        if !paths.iter().all(|path| path.exists()) {
            return Ok(None);
        }
        let open =
            |path: &Path| MapData::from_pin(path).context(format!("open table {}", path.display()));
        let [v4, v6] = paths;
        Ok(Some(Self { bank, tries: [open(&v4)?, open(&v6)?] }))
    }

    fn write(&self, writes: &BlockWrites, progress: &mut dyn FnMut(usize)) -> Result<()> {
        let [v4, v6] = self.tries.each_ref().map(|trie| trie.fd().as_fd());
        prefixes(v4, &writes.v4, progress).context("write the table of blocked IPv4 networks")?;
        prefixes(v6, &writes.v6, progress).context("write the table of blocked IPv6 networks")
    }

    fn memory(&self) -> Option<u64> {
        self.tries.iter().map(|trie| memory(trie.fd().as_fd())).sum()
    }
}

/// The same value in both halves.
fn all<const N: usize>(blocks: &BlockedPrefixes<N>) -> PrefixWrites<N> {
    let put = blocks.iter().map(|(prefix, value)| (*prefix, [*value; 2])).collect();
    PrefixWrites { put, removed: Vec::new() }
}

/// Removes the pins of a bank; the outer maps may still refer to its tries.
fn remove(pins: &Pins, bank: u32) -> Result<()> {
    OUTER.into_iter().try_for_each(|name| unpin(&pins.blocks_table(bank, name)))
}

/// The word for blocks in a half of a bank.
fn word(blocks: &CompiledBlocks, bank: u32, half: u32) -> Blocking {
    Blocking::new([!blocks.v4.is_empty(), !blocks.v6.is_empty()], bank, half)
}

impl Maps {
    /// The word that says which tries packets use.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn blocking(&self) -> Result<Blocking> {
        let word =
            entries::get::<u32, u64>(self.fd("BLOCKING"), &0).context("read map BLOCKING")?;
        Ok(Blocking(word.unwrap_or(0)))
    }

    /// Whether anything is blocked on the whole host.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn blocks_any(&self) -> Result<bool> {
        let word = self.blocking()?;
        Ok(word.has(true) || word.has(false))
    }

    /// Whether exactly these blocks are in force.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn blocks_are_current(&self, blocks: &CompiledBlocks) -> Result<bool> {
        let now = self.blocking()?;
        if blocks.is_empty() {
            return Ok(!self.blocks_any()?);
        }
        let half = u32::from(now.half() != 0);
        Ok(now == word(blocks, now.bank(), half)
            && self.digests(now.bank())?[now.half()] == blocks.digest)
    }

    /// Whether the tries that packets use are there, and equal in both halves. Not after a process was killed
    /// during a change.
    ///
    /// # Errors
    /// A map or a trie cannot be read.
    pub fn blocks_are_complete(&self) -> Result<bool> {
        if !self.blocks_any()? {
            return Ok(true);
        }
        let bank = self.blocking()?.bank();
        let [one, other] = self.digests(bank)?;
        Ok(one == other && Tries::open(&self.pins, bank)?.is_some())
    }

    /// Plans the writes of blocks: what differs from `known`, if these are in force and that is little, or
    /// everything.
    ///
    /// # Errors
    /// A map or a trie cannot be read.
    pub fn plan_blocks(
        &self,
        known: Option<&CompiledBlocks>,
        blocks: &CompiledBlocks,
    ) -> Result<BlockPlan> {
        let whole = BlockPlan { within: None, entries: blocks.len() };
        if blocks.is_empty() {
            return Ok(whole);
        }
        let Some((tries, known)) = self.known_tries(known)? else { return Ok(whole) };
        let delta = plan_blocks(known, blocks, self.blocking()?.half());
        // They are written before and after the flip, and a few are faster than tries of their own.
        if delta.before.len() + delta.after.len() > blocks.len().max(FEW) {
            return Ok(whole);
        }
        Ok(BlockPlan { entries: delta.before.len(), within: Some((tries, delta)) })
    }

    /// Writes blocks where no packet uses them yet. `progress` is called with the size of every batch of
    /// entries.
    ///
    /// # Errors
    /// The kernel refuses a trie or an entry; the blocks before stay in force.
    pub fn shadow_blocks(
        &mut self,
        plan: BlockPlan,
        blocks: &CompiledBlocks,
        progress: &mut dyn FnMut(usize),
    ) -> Result<BlockShadow> {
        if blocks.is_empty() {
            return Ok(BlockShadow { word: Blocking(0), digest: 0, tries: None, after: None });
        }
        let now = self.blocking()?;
        let digest = blocks.digest;
        if let Some((tries, BlockDelta { before, after })) = plan.within {
            let half = 1 - now.half();
            let mut digests = self.digests(tries.bank)?;
            // A process that is killed while it writes leaves a half that no later change relies on.
            digests[half] = 0;
            self.set_digests(tries.bank, digests)?;
            tries.write(&before, progress)?;
            digests[half] = digest;
            self.set_digests(tries.bank, digests)?;
            let word = word(blocks, tries.bank, u32::from(half != 0));
            return Ok(BlockShadow { word, digest, tries: Some(tries), after: Some(after) });
        }
        let bank = if self.blocks_any()? { 1 - now.bank() } else { 0 };
        self.set_digests(bank, [0; 2])?;
        let tries = Tries::create(&self.pins, bank, blocks, progress)?;
        self.set_digests(bank, [digest; 2])?;
        Ok(BlockShadow { word: word(blocks, bank, 0), digest, tries: Some(tries), after: None })
    }

    /// The tries that packets use, if both of their halves hold the known blocks.
    fn known_tries<'a>(
        &self,
        known: Option<&'a CompiledBlocks>,
    ) -> Result<Option<(Tries, &'a CompiledBlocks)>> {
        let Some(known) = known.filter(|known| !known.is_empty()) else { return Ok(None) };
        let bank = self.blocking()?.bank();
        if !self.blocks_any()? || self.digests(bank)? != [known.digest; 2] {
            return Ok(None);
        }
        Ok(Tries::open(&self.pins, bank)?.map(|tries| (tries, known)))
    }

    /// Shows blocks to the kernel programs, so that they can be probed and used.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn publish_blocks(&self, shadow: &BlockShadow) -> Result<()> {
        let Some(Tries { bank, tries }) = shadow.tries.as_ref().filter(|_| shadow.is_new()) else {
            return Ok(());
        };
        let descriptor =
            |trie: &MapData| u32::try_from(trie.fd().as_fd().as_raw_fd()).unwrap_or(u32::MAX);
        let outer = [0, 1].map(|at| (OUTER[at], vec![(*bank, descriptor(&tries[at]))]));
        self.set_outer(&outer)
    }

    /// The kernel program's results of probes of published blocks; only the outside address counts.
    ///
    /// # Errors
    /// The pinned programs cannot be run.
    pub fn probe_blocks(
        &self,
        shadow: &BlockShadow,
        probes: &[Probe],
    ) -> Result<Vec<(Probe, Option<u32>)>> {
        probe(&self.pins, Program::Blocks, shadow.word.0, probes)
    }

    /// After the flip and a grace period: makes the other half equal, or frees the other bank.
    pub(super) fn settle_blocks(&mut self, shadow: &BlockShadow) -> Result<()> {
        if let (Some(tries), Some(after)) = (&shadow.tries, &shadow.after) {
            tries.write(after, &mut |_| {})?;
            self.set_digests(tries.bank, [shadow.digest; 2])?;
        }
        self.free_blocks()
    }

    /// Frees the banks that packets do not use, with what killed processes have left.
    ///
    /// # Errors
    /// A map cannot be written, or a pin cannot be removed.
    pub fn free_blocks(&mut self) -> Result<()> {
        let used = self.blocks_any()?.then_some(self.blocking()?.bank());
        for bank in (0..BLOCK_BANKS).filter(|bank| Some(*bank) != used) {
            self.clear_outer(&OUTER.map(|name| (name, bank)))?;
            remove(&self.pins, bank)?;
            if self.digests(bank)? != [0; 2] {
                self.set_digests(bank, [0; 2])?;
            }
        }
        Ok(())
    }

    /// The memory of the blocks in bytes, 0 if nothing is blocked; `None` before Linux 6.4.
    ///
    /// # Errors
    /// A map or a trie cannot be read.
    pub fn block_memory(&self) -> Result<Option<u64>> {
        if !self.blocks_any()? {
            return Ok(Some(0));
        }
        let tries = Tries::open(&self.pins, self.blocking()?.bank())?;
        Ok(tries.and_then(|tries| tries.memory()))
    }

    fn digests(&self, bank: u32) -> Result<Digests> {
        let name = BLOCK_RECORDS.name;
        self.block_records.get(&bank, 0).context(format_args!("read map {name}"))
    }

    fn set_digests(&mut self, bank: u32, digests: Digests) -> Result<()> {
        let name = BLOCK_RECORDS.name;
        self.block_records.set(bank, digests, 0).context(format_args!("write map {name}"))
    }
}
