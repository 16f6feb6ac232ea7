//! The constants of the programs that record packets.

use aya::EbpfLoader;
use aya::util::online_cpus;
use firewall_ebpf::abi::record::{HASH_WORDS, TICK};

use crate::dataplane::error::{DataplaneError, Result};

/// Records of an interface in a second, on all CPUs together: what a reader keeps up with in a flood.
const PER_SECOND: u64 = 1000;

/// Records of an interface in a second that a CPU has at least, because the packets of one interface may all come
/// to the same.
const PER_CPU: u64 = 50;

/// The constants, by their names in the kernel object.
#[derive(Debug)]
pub(in crate::dataplane) struct RecordLimits {
    age: u64,
    cost: u64,
    burst: u64,
    keys: [[u32; 2]; HASH_WORDS],
}

impl RecordLimits {
    /// Those of this host, with `hz` jiffies in a second. The keys of the hash are chosen anew: programs with
    /// other keys share the same cells.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub(in crate::dataplane) fn new(hz: u64) -> Result<Self> {
        let mut keys = [[0; 2]; HASH_WORDS];
        for word in keys.iter_mut().flatten() {
            *word = getrandom::u32().map_err(|error| {
                DataplaneError::new(format!("choose random numbers: {error}"), "")
            })?;
        }
        let cpus = online_cpus().map_or(1, |cpus| u64::try_from(cpus.len()).unwrap_or(1));
        let rate = (PER_SECOND / cpus.max(1)).max(PER_CPU);
        let cost = hz * TICK / rate;
        Ok(Self { age: hz, cost, burst: cost * rate, keys })
    }

    /// Has a loader use them.
    pub(in crate::dataplane) fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global("RECORD_AGE", &self.age, true)
            .override_global("RECORD_COST", &self.cost, true)
            .override_global("RECORD_BURST", &self.burst, true)
            .override_global("HASH_KEYS", &self.keys, true);
    }
}
