//! The decision's tables over BPF maps.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_ebpf::admit;
use firewall_ebpf::bloom::Bit;
use firewall_ebpf::event::{Event, event_index};
use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::flow::{Address as _, Flow, FlowKey4, FlowKey6, FlowRef, Tier};
use firewall_ebpf::fragment::FirstFragment;
use firewall_ebpf::interface::{Direction, State, TcpChecks};
use firewall_ebpf::packet::Packet;
use firewall_ebpf::parse::{V4, V6};
use firewall_ebpf::policy::{Active, List, ask, asked};
use firewall_ebpf::tables::{Counts, Flows, Fragments, Full, Interface, Policy, Prefixes};

use super::{globals, maps};

const EEXIST: i32 = -17;

/// This interface's tables.
pub(super) struct Kernel;

impl Interface for Kernel {
    #[inline(always)]
    fn slot(&self) -> u16 {
        globals::slot()
    }

    #[inline(always)]
    fn non_ip(&self) -> NonIp {
        globals::non_ip()
    }

    #[inline(always)]
    fn timeout(&self, state: State) -> u64 {
        globals::timeout(state)
    }

    #[inline(always)]
    fn tcp_checks(&self) -> TcpChecks {
        globals::tcp_checks()
    }

    #[inline(always)]
    fn glances<P: Packet>(&self, _: &P) -> bool {
        globals::glances()
    }

    #[inline(always)]
    fn picks_up(&self) -> bool {
        globals::picks_up()
    }

    #[inline(always)]
    fn revalidates(&self) -> bool {
        globals::revalidates()
    }

    #[inline(always)]
    fn is_refusing(&self) -> bool {
        globals::is_refusing(|| self.now())
    }

    #[inline(always)]
    fn fragment_timeout(&self) -> u64 {
        globals::fragment_timeout()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing and has no effect. The verifier inlines it: one load.
        unsafe { bpf_jiffies64() }
    }
}

macro_rules! family {
    ($address:ty, $key:ty, $new:ident, $proven:ident, $fragments:ident, $prefixes:ident,
        $bits:literal, $admit:expr) => {
        impl Flows<$address> for Kernel {
            #[inline(always)]
            fn may_hold(&self, key: &$key) -> bool {
                sg_may_hold(<$address>::bit(key).0) != 0
            }

            #[inline(always)]
            fn find(&self, tier: Tier, key: &$key) -> Option<FlowRef<'_>> {
                let record = match tier {
                    Tier::New => maps::$new.get_ptr_mut(key),
                    Tier::Proven => maps::$proven.get_ptr_mut(key),
                }?;
                // SAFETY: the tables are preallocated: a record stays readable and writable for
                // the life of the map, though it may come to belong to another flow, which
                // `FlowRef` discusses.
                Some(unsafe { FlowRef::new(record) })
            }

            #[inline(always)]
            fn insert(&self, tier: Tier, key: &$key, flow: &Flow) -> Result<bool, Full> {
                // First: a packet that finds the flow has to find its bit.
                sg_mark(<$address>::bit(key).0);
                let flags = u64::from(BPF_NOEXIST);
                let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return Err(Full) };
                // SAFETY: this CPU's own, and nothing else of it runs between here and the insert:
                // see `maps::add`.
                let flow = unsafe {
                    scratch.write(*flow);
                    &*scratch
                };
                let done = match tier {
                    Tier::New => maps::$new.insert(key, flow, flags),
                    Tier::Proven => maps::$proven.insert(key, flow, flags),
                };
                match done {
                    Ok(()) => Ok(true),
                    Err(EEXIST) => Ok(false),
                    Err(_) => Err(Full),
                }
            }

            #[inline(always)]
            fn remove(&self, tier: Tier, key: &$key) {
                // That another CPU was first is fine.
                let _ = match tier {
                    Tier::New => maps::$new.remove(key),
                    Tier::Proven => maps::$proven.remove(key),
                };
            }
        }

        impl Fragments<$address> for Kernel {
            #[inline(always)]
            fn first_fragment(&self, key: &$key) -> Option<FirstFragment> {
                let record = maps::$fragments.get_ptr_mut(key)?;
                // SAFETY: preallocated like the flows, so readable for the life of the map. A
                // record that is reused between the lookup and this read is another packet's,
                // whose first fragment passed too; a copy torn between two mixes their times and
                // ends, and costs or saves one fragment.
                Some(unsafe { record.read_volatile() })
            }

            #[inline(always)]
            fn keep_fragment(&self, key: &$key, first: &FirstFragment) {
                // The newest counts, whichever CPU was first. That it could not be kept shows in
                // the later fragments.
                let _ = maps::$fragments.insert(key, first, 0);
            }
        }

        impl Prefixes<$address> for Kernel {
            #[inline(always)]
            fn rule_for_anywhere(
                &self,
                active: Active,
                direction: Direction,
                traffic: u32,
            ) -> Option<u32> {
                match sg_rule_for_anywhere(active.0, ask(direction, traffic), <$address>::ANY) {
                    0 => None,
                    rule => Some(rule),
                }
            }

            #[inline(always)]
            fn longest(&self, active: Active, address: $address) -> Option<u32> {
                let trie = maps::$prefixes.get(active.index())?;
                let classes = trie.get(&Key::new($bits, address))?;
                // Of both halves; userspace replaces entries, it does not write into them.
                Some(classes[active.half() & 1])
            }

            #[inline(always)]
            fn admit(
                &self,
                active: Active,
                direction: Direction,
                outside: $address,
                traffic: u32,
            ) -> Option<u32> {
                match $admit(active.0, ask(direction, traffic), outside) {
                    0 => None,
                    rule => Some(rule),
                }
            }
        }
    };
}

family!(V4, FlowKey4, FLOWS_NEW_V4, FLOWS_PROVEN_V4, FRAGMENTS_V4, PREFIXES_V4, 32, sg_admit_v4);
family!(V6, FlowKey6, FLOWS_NEW_V6, FLOWS_PROVEN_V6, FRAGMENTS_V6, PREFIXES_V6, 128, call_admit_v6);

// Admission is made of BPF functions of their own. The verifier walks each once; inlined, it would
// walk the chain of classes for every way a packet can get there (30 times the instructions).
// A BPF function takes at most five words, hence the packing. 0 is "no rule": no rule has it.

/// [`admit::admit`] for IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_admit_v4(active: u64, ask: u32, outside: V4) -> u32 {
    let (direction, traffic) = asked(ask);
    admit::admit(&Kernel, Active(active), direction, outside, traffic).unwrap_or(0)
}

#[inline(always)]
fn call_admit_v6(active: u64, ask: u32, [first, second]: V6) -> u32 {
    sg_admit_v6(active, ask, first, second)
}

/// [`admit::admit`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_admit_v6(active: u64, ask: u32, first: u64, second: u64) -> u32 {
    let (direction, traffic) = asked(ask);
    admit::admit(&Kernel, Active(active), direction, [first, second], traffic).unwrap_or(0)
}

/// [`admit::in_class`] of an "any" class.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_rule_for_anywhere(active: u64, ask: u32, class: u32) -> u32 {
    let (direction, traffic) = asked(ask);
    admit::in_class(&Kernel, Active(active), direction, class, traffic).0.unwrap_or(0)
}

// The filter of flows is asked and written in BPF functions, too: Linux 6.1 counts the stack of the
// longest chain of calls in steps of 32 bytes for each, and without them it is over 512.

/// [`maps::may_hold`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_may_hold(bit: u32) -> u32 {
    u32::from(maps::may_hold(Bit(bit)))
}

/// [`maps::mark`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_mark(bit: u32) -> u32 {
    maps::mark(Bit(bit));
    0
}

impl Policy for Kernel {
    #[inline(always)]
    fn active(&self) -> Active {
        // One aligned word: userspace's write is seen whole or not at all.
        Active(maps::ACTIVE.get(u32::from(globals::slot())).copied().unwrap_or(0))
    }

    #[inline(always)]
    fn list(&self, active: Active, class: u32, direction: Direction) -> Option<(List, u32)> {
        // Userspace writes rows of the other half only, and words of those of this one with what
        // they hold already.
        let row = &maps::CLASSES.get_value(active.index(), &class)?[active.half() & 1];
        Some((row.lists[direction as usize & 1], row.parent))
    }

    #[inline(always)]
    fn search(&self, active: Active, at: u32, len: u32, traffic: u32) -> Option<u32> {
        match sg_search(active.index(), u64::from(at), u64::from(len), u64::from(traffic) + 1) {
            0 => None,
            rule => Some(rule),
        }
    }
}

/// [`admit::search`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_search(index: u32, at: u64, len: u64, limit: u64) -> u32 {
    admit::search(at, len, limit, |page| maps::RANGES.get_value(index, &page)).unwrap_or(0)
}

impl Counts for Kernel {
    #[inline(always)]
    fn count_rule(&self, rule: u32, bytes: u32) {
        maps::count_rule(rule, bytes);
    }

    #[inline(always)]
    fn count_event(&self, event: Event) {
        maps::count_event(event_index(globals::slot(), event));
    }
}
