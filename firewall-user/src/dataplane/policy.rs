//! Policies into the kernel: a shadow copy first, then one word that makes it the active one.

use std::hash::{DefaultHasher, Hash, Hasher};

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, MapData, PerCpuValues};
use firewall_ebpf::host::CompiledPolicy;
use firewall_ebpf::policy::{Active, Class, Counter, index};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::maps::Maps;
use crate::dataplane::sys;

/// `BPF_F_NO_PREALLOC`, which a trie must have.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_INNER_MAP`: inner arrays may differ in size.
const INNER_MAP: u32 = 1 << 12;

/// A policy that is in the kernel but not in force.
#[must_use = "a shadow does nothing until it is flipped"]
pub struct Shadow {
    slot: u16,
    active: Active,
    classes: Array<MapData, Class>,
}

/// The size of a policy in the kernel, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicySize {
    /// Prefixes of both families.
    pub prefixes: usize,
    /// Port ranges.
    pub ranges: usize,
}

impl From<&CompiledPolicy> for PolicySize {
    fn from(policy: &CompiledPolicy) -> Self {
        Self {
            prefixes: policy.prefixes_v4.len() + policy.prefixes_v6.len(),
            ranges: policy.ranges.len(),
        }
    }
}

/// What the active word carries as the policy's generation: enough to tell whether a policy is the
/// one in force, which [`Maps::is_current`] asks.
fn digest(policy: &CompiledPolicy) -> u32 {
    let mut hasher = DefaultHasher::new();
    policy.prefixes_v4.hash(&mut hasher);
    policy.prefixes_v6.hash(&mut hasher);
    for class in &policy.classes {
        (class.parent, class.start, class.len).hash(&mut hasher);
    }
    for range in &policy.ranges {
        (range.low, range.high, range.rule).hash(&mut hasher);
    }
    let hash = hasher.finish();
    u32::try_from(hash >> 32).unwrap_or(0)
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
    pub fn is_current(&self, slot: u16, policy: &CompiledPolicy) -> Result<bool> {
        let active = self.active(slot)?;
        Ok(active.is_present() && active == policy.active(active.parity(), digest(policy)))
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

    /// Writes a policy beside the one in force. Packets do not see it yet.
    ///
    /// # Errors
    /// The kernel refuses a map or an entry; what is in force stays so.
    pub fn shadow(&mut self, slot: u16, policy: &CompiledPolicy) -> Result<Shadow> {
        self.require_room(slot)?;
        let current = self.active(slot)?;
        let parity = if current.is_present() { 1 - current.parity() } else { 0 };
        let at = index(slot, parity);

        let classes = rows(&policy.classes).context("write the class table")?;
        let ranges = rows(&policy.ranges).context("write the range table")?;
        self.classes.set(at, &classes, 0).context("write map CLASSES")?;
        self.ranges.set(at, &ranges, 0).context("write map RANGES")?;
        if !policy.prefixes_v4.is_empty() {
            let trie = trie(policy.prefixes_v4.iter()).context("write the IPv4 prefixes")?;
            self.prefixes_v4.set(at, &trie, 0).context("write map PREFIXES_V4")?;
        }
        if !policy.prefixes_v6.is_empty() {
            let trie = trie(policy.prefixes_v6.iter()).context("write the IPv6 prefixes")?;
            self.prefixes_v6.set(at, &trie, 0).context("write map PREFIXES_V6")?;
        }
        let active = policy.active(parity, digest(policy));
        Ok(Shadow { slot, active, classes })
    }

    /// Puts a shadow in force: one aligned 8-byte write, so that every packet is judged by the old
    /// policy or by the new one.
    ///
    /// # Errors
    /// The write fails, and the old policy stays in force.
    pub fn flip(&mut self, shadow: Shadow) -> Result<()> {
        let Shadow { slot, active, classes } = shadow;
        self.active.set(u32::from(slot), active.0, 0).context("write map ACTIVE")?;
        // A packet that read the old word may still be looking into the old tables. Setting an
        // inner map makes the kernel wait until all such packets are done (`synchronize_rcu` in
        // `maybe_wait_bpf_programs`, kernel/bpf/syscall.c), so the old half can go after that.
        self.classes.set(active.index(slot), &classes, 0).context("write map CLASSES")?;
        self.clear_half(slot, 1 - active.parity())
    }

    /// Takes a slot's policy out of force and forgets it. Packets of no flow are dropped with
    /// `no-policy` from then on, if a program still runs for the slot.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn clear_policy(&mut self, slot: u16) -> Result<()> {
        self.active.set(u32::from(slot), 0, 0).context("write map ACTIVE")?;
        self.clear_half(slot, 0)?;
        self.clear_half(slot, 1)
    }

    fn clear_half(&mut self, slot: u16, parity: u32) -> Result<()> {
        let at = index(slot, parity);
        for name in ["CLASSES", "RANGES", "PREFIXES_V4", "PREFIXES_V6"] {
            sys::remove(self.fd(name), &at).context(format!("clear map {name}"))?;
        }
        Ok(())
    }

    /// Makes the counters of exactly these rules exist, keeping what is counted already. The
    /// numbers of rules are never used again, so a counter is its rule's for good.
    ///
    /// # Errors
    /// There are more rules than the map holds, or it cannot be written.
    pub fn count_rules(&mut self, rules: &std::collections::BTreeSet<u32>) -> Result<()> {
        let limit = usize::try_from(self.sizes.rules).unwrap_or(usize::MAX);
        if rules.len() > limit {
            return Err(DataplaneError::new(
                format!(
                    "rule counters: {} rules, {} more than the {limit} that fit",
                    rules.len(),
                    rules.len() - limit
                ),
                "raise maps.rules in the configuration and start anew after `detach --all`",
            ));
        }
        let present: Vec<u32> =
            self.rule_counters.keys().collect::<std::result::Result<_, _>>().context(READ_RULES)?;
        for number in present.iter().filter(|number| !rules.contains(number)) {
            sys::remove(self.fd("RULE_COUNTERS"), number).context("write map RULE_COUNTERS")?;
        }
        for number in rules.iter().filter(|number| !present.contains(number)) {
            let cpus = aya::util::nr_cpus().map_err(|(_, error)| error).context("count CPUs")?;
            let zero =
                PerCpuValues::try_from(vec![Counter::default(); cpus]).context("count CPUs")?;
            self.rule_counters.insert(number, zero, 0).context("write map RULE_COUNTERS")?;
        }
        Ok(())
    }
}

pub(super) const READ_RULES: &str = "read map RULE_COUNTERS";

/// Entries of a table that may be empty: the kernel has no map of none.
fn count(rows: usize) -> u32 {
    u32::try_from(rows.max(1)).unwrap_or(u32::MAX)
}

fn rows<T: Pod>(rows: &[T]) -> std::result::Result<Array<MapData, T>, aya::maps::MapError> {
    let mut table = Array::create(count(rows.len()), INNER_MAP)?;
    for (at, row) in (0..).zip(rows) {
        table.set(at, row, 0)?;
    }
    Ok(table)
}

fn trie<'a, const N: usize>(
    prefixes: impl ExactSizeIterator<Item = (&'a (u8, [u8; N]), &'a u32)>,
) -> std::result::Result<LpmTrie<MapData, [u8; N], u32>, aya::maps::MapError>
where
    [u8; N]: Pod,
{
    let mut trie = LpmTrie::create(count(prefixes.len()), NO_PREALLOC)?;
    for ((length, octets), class) in prefixes {
        trie.insert(&Key::new(u32::from(*length), *octets), class, 0)?;
    }
    Ok(trie)
}
