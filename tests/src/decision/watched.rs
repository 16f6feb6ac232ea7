//! The kernel while its packets are recorded: every packet has the record that it must have, or none.

use std::collections::BTreeMap;
use std::time::Duration;

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::record::{AUDIT, Account, FRAME, Record, account_index};
use firewall_user::dataplane::records::{self, Flush, Ring, Watch};
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::dataplane::{Pins, instance};
use firewall_user::policy::CompiledPolicy;

use crate::decision::deny::{Blocks, Ends, Filter};
use crate::decision::engine::{Engine, FlowViews};
use crate::decision::host::SLOT;
use crate::decision::kernel::{Kernel, Setup};
use crate::decision::run::hex;

/// Longer than a test.
const WATCH: Duration = Duration::from_secs(3600);

/// The engine in the kernel, with a reader of its records.
pub struct Watched {
    /// The engine.
    pub kernel: Kernel,
    /// The instance's pins.
    pub pins: Pins,
    /// The instance's maps.
    pub maps: Maps,
    /// The ring buffer.
    pub ring: Ring,
    accounts: PerCpuArray<MapData, Account>,
}

impl Watched {
    /// Loads the programs, and has all packets recorded that can be.
    ///
    /// # Panics
    /// If something is not there.
    #[must_use]
    pub fn load(setup: Setup) -> Self {
        let kernel = Kernel::load(setup);
        let pins = kernel.pins();
        let maps = instance::open(&pins).expect("open the maps").expect("an instance");
        let ring = Ring::open(&pins).expect("open the ring buffer");
        let accounts = MapData::from_pin(pins.map("RECORD_ACCOUNTS")).expect("open the accounts");
        let accounts = Map::PerCpuArray(accounts).try_into().expect("the accounts");
        let this = Self { kernel, pins, maps, ring, accounts };
        this.watch(Watch { drops: true, passes: true });
        this
    }

    /// Has other packets recorded.
    ///
    /// # Panics
    /// If that fails.
    pub fn watch(&self, watch: Watch) {
        records::watch(&self.maps, &[SLOT], watch, WATCH).expect("watch");
    }

    /// Every record that there is, and that the packets in cells are still to have.
    ///
    /// # Panics
    /// If that fails.
    pub fn all_records(&mut self) -> Vec<Record> {
        records::flush(&self.pins, Flush { all: true, self_test: false }).expect("flush");
        self.ring.read(usize::MAX).expect("read records")
    }

    /// The account of the interface: seen and lost packets that are dropped.
    ///
    /// # Panics
    /// If that cannot be read, or a packet is in a cell.
    #[must_use]
    pub fn account(&self) -> (u64, u64) {
        let accounts = records::accounts(&self.maps).expect("read the accounts");
        let account = accounts[usize::from(SLOT)];
        assert_eq!((account.slot, account.in_cells), (SLOT, [0; 2]));
        (account.seen[0], account.lost[0])
    }

    /// Sets the accounts to zero and fills the token buckets.
    ///
    /// # Panics
    /// If that fails.
    pub fn clear_accounts(&mut self) {
        let cpus = nr_cpus().expect("count CPUs");
        for reason in [Reason::NoRule, Reason::Admitted] {
            let zeros = PerCpuValues::try_from(vec![Account::default(); cpus]).expect("values");
            let at = account_index(SLOT, reason as u32);
            self.accounts.set(at, zeros, 0).expect("clear an account");
        }
    }

    /// Checks the record of a packet that was decided; `decided_by` is what was counted.
    fn check(&mut self, frame: &[u8], (direction, reason): (Direction, Reason), deciders: &[u32]) {
        let mut records = self.ring.read(usize::MAX).expect("read records");
        if records.is_empty() {
            // Of a tuple that was there within a second.
            records = self.all_records();
        }
        let is_recorded = reason.verdict() == Verdict::Drop
            || matches!(reason, Reason::Admitted | Reason::Untracked);
        let what = || format!("{} {}: bytes {}", direction.name(), reason.name(), hex(frame));
        let [record] = &records[..] else {
            assert!(!is_recorded && records.is_empty(), "{} records: {}", records.len(), what());
            return;
        };
        assert!(is_recorded, "a record of {}", what());
        let length = u64::try_from(frame.len()).expect("a frame");
        let Record { packets, bytes, key, .. } = *record;
        assert_eq!((packets, bytes), (1, length), "{}", what());
        assert_eq!((key.slot, key.reason), (SLOT, reason as u8), "{}", what());
        assert_eq!((key.direction(), key.flags & AUDIT), (direction, 0), "{}", what());
        assert_eq!(u64::from(record.frame_length), length, "{}", what());
        let captured = frame.len().min(FRAME);
        assert_eq!(usize::from(record.captured), captured, "{}", what());
        assert_eq!(record.frame[..captured], frame[..captured], "{}", what());
        assert!(record.frame[captured..].iter().all(|byte| *byte == 0), "{}", what());
        let active = self.maps.active(SLOT).expect("read the active word");
        assert_eq!(key.generation, active.generation(), "{}", what());
        match reason {
            Reason::Acl | Reason::Blocked | Reason::Admitted | Reason::Untracked => {
                assert!(deciders.contains(&key.decided_by), "{key:?} {deciders:?}: {}", what());
            }
            _ => assert_eq!(key.decided_by, 0, "{}", what()),
        }
    }
}

/// What has more packets than before.
fn counted(
    before: &BTreeMap<u32, (u64, u64)>,
    after: BTreeMap<u32, (u64, u64)>,
) -> impl Iterator<Item = u32> {
    let changed = after.into_iter().filter(|(number, count)| before.get(number) != Some(count));
    changed.map(|(number, _)| number)
}

impl Engine for Watched {
    fn name(&self) -> String {
        format!("{}, watched", self.kernel.name())
    }

    fn reset(&mut self, policy: Option<&CompiledPolicy>) {
        self.kernel.reset(policy);
        self.clear_accounts();
    }

    fn replace(&mut self, policy: &CompiledPolicy) {
        self.kernel.replace(policy);
    }

    fn set_rule_ends(&mut self, ends: &Ends) {
        self.kernel.set_rule_ends(ends);
    }

    fn set_filter(&mut self, filter: Option<&Filter>) {
        self.kernel.set_filter(filter);
    }

    fn set_blocks(&mut self, blocks: &Blocks) {
        self.kernel.set_blocks(blocks);
    }

    fn decide(&mut self, frame: &[u8], direction: Direction) -> Option<Reason> {
        let before = (self.kernel.entries(), self.kernel.rules());
        let reason = self.kernel.decide(frame, direction)?;
        let deciders: Vec<_> = match reason {
            Reason::Acl | Reason::Blocked => counted(&before.0, self.kernel.entries()).collect(),
            _ => counted(&before.1, self.kernel.rules()).collect(),
        };
        self.check(frame, (direction, reason), &deciders);
        Some(reason)
    }

    fn wait(&mut self, seconds: u32) {
        self.kernel.wait(seconds);
    }

    fn fill_proven(&mut self, full: bool) {
        self.kernel.fill_proven(full);
    }

    fn learn_flows(&mut self) {
        self.kernel.learn_flows();
    }

    fn flows(&mut self) -> FlowViews {
        self.kernel.flows()
    }

    fn rules(&mut self) -> BTreeMap<u32, (u64, u64)> {
        self.kernel.rules()
    }

    fn has_fast_path(&self) -> bool {
        self.kernel.has_fast_path()
    }

    fn entries(&mut self) -> BTreeMap<u32, (u64, u64)> {
        self.kernel.entries()
    }

    fn events(&mut self) -> BTreeMap<Event, u64> {
        self.kernel.events()
    }
}
