//! Blocks of the whole host: networks whose packets are dropped before anything else is known of them.
//!
//! The kernel searches one trie for the longest prefix, so the compiler stores with each prefix the block
//! that is in force for the longest time, of those of the prefix and of the networks around it. A prefix that
//! changes nothing is left out.

mod evaluate;
mod plan;

use firewall_ebpf::abi::filter::entry_number;
use firewall_ebpf::abi::limits::MAX_PREFIXES;
use firewall_ebpf::abi::policy::TIMED;
use firewall_ebpf::abi::prefix::Prefix;
use xxhash_rust::xxh3::Xxh3;

pub use evaluate::{BlockMismatch, block_probes, check_blocks, evaluate_blocks};
pub use plan::{BlockDelta, BlockWrites, plan_blocks};

use crate::compile::{TooLarge, fits};
use crate::model::{Block, Model, Networks};
use crate::prefixes::{prefix_v4, prefix_v6};
use crate::resolve::networks_of;

/// A block, with its networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedBlock {
    /// The index of its counter.
    pub counter: u32,
    /// The outside networks.
    pub networks: Networks,
    /// When it ends, in nanoseconds since the boot (`CLOCK_BOOTTIME`).
    pub end: Option<u64>,
}

impl ResolvedBlock {
    /// The value by which the kernel names the block.
    #[must_use]
    pub fn value(&self) -> u32 {
        entry_number(self.counter) | if self.end.is_some() { TIMED } else { 0 }
    }

    /// Later for a block that is in force for longer.
    fn endurance(&self) -> u64 {
        self.end.unwrap_or(u64::MAX)
    }
}

fn of_host(model: &Model) -> impl Iterator<Item = &Block> {
    model.blocks.values().filter(|block| block.interface.is_none())
}

/// The numbers of the blocks of the whole host, each of which has a counter.
#[must_use]
pub fn block_numbers(model: &Model) -> Vec<u32> {
    of_host(model).map(|block| block.number).collect()
}

/// The blocks of the whole host; none in emergency mode. `counter` gives the index of a number's counter.
#[must_use]
pub fn resolve_blocks(model: &Model, counter: &dyn Fn(u32) -> u32) -> Vec<ResolvedBlock> {
    if model.is_panicking {
        return Vec::new();
    }
    let resolved = of_host(model).map(|block| ResolvedBlock {
        counter: counter(block.number),
        networks: networks_of(model, &block.target),
        end: block.end.map(|end| end.boottime),
    });
    resolved.collect()
}

/// Blocked prefixes with the values that the kernel finds: sorted, an enclosing prefix before those within
/// it.
pub type BlockedPrefixes<const N: usize> = Vec<(Prefix<N>, u32)>;

/// Blocks in the form of the kernel's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledBlocks {
    /// IPv4.
    pub v4: BlockedPrefixes<4>,
    /// IPv6.
    pub v6: BlockedPrefixes<16>,
    /// Distinguishes blocks by their contents: the same in every process. When a block ends is not part of
    /// the tables. 0 if there is none, and only then.
    pub digest: u64,
}

impl CompiledBlocks {
    /// Whether nothing is blocked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How many prefixes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

/// Compiles blocks. The same blocks give the same tables.
///
/// # Errors
/// [`TooLarge`] if there are more prefixes than fit.
pub fn compile_blocks(blocks: &[ResolvedBlock]) -> Result<CompiledBlocks, TooLarge> {
    let v4 = effective(blocks, |networks| networks.v4().iter().map(prefix_v4));
    let v6 = effective(blocks, |networks| networks.v6().iter().map(prefix_v6));
    fits("blocked IPv4 prefixes", v4.len(), MAX_PREFIXES)?;
    fits("blocked IPv6 prefixes", v6.len(), MAX_PREFIXES)?;
    let mut compiled = CompiledBlocks { v4, v6, digest: 0 };
    if !compiled.is_empty() {
        compiled.digest = digest(&compiled).max(1);
    }
    Ok(compiled)
}

/// The effective block of each prefix.
fn effective<'a, const N: usize, I: Iterator<Item = Prefix<N>>>(
    blocks: &'a [ResolvedBlock],
    prefixes: impl Fn(&'a Networks) -> I,
) -> BlockedPrefixes<N> {
    let mut all: Vec<(Prefix<N>, usize)> = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        all.extend(prefixes(&block.networks).map(|prefix| (prefix, at)));
    }
    // Stable, because it uses that the networks of each block are sorted already.
    all.sort();
    let mut found = BlockedPrefixes::with_capacity(all.len());
    // The prefixes that enclose the current one with their effective blocks, the narrowest on top.
    let mut enclosing: Vec<(Prefix<N>, usize)> = Vec::new();
    for of_prefix in all.chunk_by(|(one, _), (other, _)| one == other) {
        let prefix = of_prefix[0].0;
        while enclosing.last().is_some_and(|(outer, _)| !outer.encloses(&prefix)) {
            enclosing.pop();
        }
        let around = enclosing.last().map(|(_, at)| *at);
        // Of those that end last, the first of the prefix itself, so that its counter counts.
        let own = of_prefix.iter().map(|(_, at)| *at);
        let Some(own) =
            own.reduce(
                |best, at| {
                    if blocks[at].endurance() > blocks[best].endurance() { at } else { best }
                },
            )
        else {
            continue;
        };
        match around {
            Some(around) if blocks[around].endurance() > blocks[own].endurance() => {}
            _ => {
                found.push((prefix, blocks[own].value()));
                enclosing.push((prefix, own));
            }
        }
    }
    found
}

fn digest(CompiledBlocks { v4, v6, .. }: &CompiledBlocks) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&v4.len().to_le_bytes());
    for (prefix, value) in v4 {
        update(&mut hasher, prefix, *value);
    }
    for (prefix, value) in v6 {
        update(&mut hasher, prefix, *value);
    }
    hasher.digest()
}

fn update<const N: usize>(hasher: &mut Xxh3, prefix: &Prefix<N>, value: u32) {
    let mut bytes = [0; 21];
    bytes[..N].copy_from_slice(&prefix.octets());
    bytes[16] = prefix.length();
    bytes[17..].copy_from_slice(&value.to_le_bytes());
    hasher.update(&bytes);
}
