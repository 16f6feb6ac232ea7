//! The decision's tables over BPF maps.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::event::{Event, event_index};
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6, Tier};
use firewall_ebpf::abi::fragment::FirstFragment;
use firewall_ebpf::abi::helper::pack_query;
use firewall_ebpf::abi::interface::{Direction, NonIp, TcpChecks};
use firewall_ebpf::abi::policy::{Active, List};
use firewall_ebpf::abi::state::State;
use firewall_ebpf::verdict::flow::FlowRef;
use firewall_ebpf::verdict::tables::{
    Counts, Dhcp, Flows, Fragments, Full, Interface, Policy, Prefixes, Rules,
};
use firewall_ebpf::wire::address::Address as _;
use firewall_ebpf::wire::packet::Packet;

use super::subprograms::{
    sg_bloom_set, sg_bloom_test, sg_dhcp, sg_lookup_any, sg_lookup_v4, sg_lookup_v6, sg_search,
};
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
    fn has_fast_path<P: Packet>(&self, _: &P) -> bool {
        globals::has_fast_path()
    }

    #[inline(always)]
    fn tcp_loose(&self) -> bool {
        globals::tcp_loose()
    }

    #[inline(always)]
    fn revalidates(&self) -> bool {
        globals::revalidates()
    }

    #[inline(always)]
    fn under_flood(&self) -> bool {
        globals::under_flood(|| self.now())
    }

    #[inline(always)]
    fn fragment_timeout(&self) -> u64 {
        globals::fragment_timeout()
    }

    #[inline(always)]
    fn udp_stream_age(&self) -> u64 {
        globals::udp_stream_age()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes no argument and has no effect. The verifier inlines it as one load.
        unsafe { bpf_jiffies64() }
    }
}

macro_rules! family {
    ($address:ty, $key:ty, $new:ident, $proven:ident, $fragments:ident, $prefixes:ident,
        $bits:literal, $lookup:expr) => {
        impl Flows<$address> for Kernel {
            #[inline(always)]
            fn may_contain(&self, key: &$key) -> bool {
                sg_bloom_test(<$address>::bit(key).0) != 0
            }

            #[inline(always)]
            fn lookup(&self, tier: Tier, key: &$key) -> Option<FlowRef<'_>> {
                let record = match tier {
                    Tier::New => maps::$new.get_ptr_mut(key),
                    Tier::Proven => maps::$proven.get_ptr_mut(key),
                }?;
                // SAFETY: the tables are preallocated: a record stays readable and writable for
                // the life of the map, though it may be reused for another flow: see `FlowRef`.
                Some(unsafe { FlowRef::new(record) })
            }

            #[inline(always)]
            fn insert(&self, tier: Tier, key: &$key, flow: &Flow) -> Result<bool, Full> {
                // First, so that no packet finds the flow without its bit.
                sg_bloom_set(<$address>::bit(key).0);
                let flags = u64::from(BPF_NOEXIST);
                let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return Err(Full) };
                // SAFETY: this CPU's record, and no other program uses it between here and the
                // insert: see `maps::add`.
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
                // Another CPU may have removed it already.
                let _ = match tier {
                    Tier::New => maps::$new.remove(key),
                    Tier::Proven => maps::$proven.remove(key),
                };
            }
        }

        impl Fragments<$address> for Kernel {
            #[inline(always)]
            fn lookup_fragment(&self, key: &$key) -> Option<FirstFragment> {
                let record = maps::$fragments.get_ptr_mut(key)?;
                // SAFETY: preallocated like the flows, so readable for the life of the map. A
                // record that is reused between the lookup and this read belongs to another packet
                // whose first fragment passed too; a copy torn between two mixes their times and
                // ends, which passes or drops one fragment wrongly.
                Some(unsafe { record.read_volatile() })
            }

            #[inline(always)]
            fn insert_fragment(&self, key: &$key, first: &FirstFragment) {
                // The last write remains. Without room the later fragments are dropped.
                let _ = maps::$fragments.insert(key, first, 0);
            }
        }

        impl Prefixes<$address> for Kernel {
            #[inline(always)]
            fn longest_prefix(&self, active: Active, address: $address) -> Option<u32> {
                let trie = maps::$prefixes.get(active.index())?;
                let classes = trie.get(&Key::new($bits, address))?;
                // Of both halves; userspace replaces entries, it never writes into one.
                Some(classes[active.half() & 1])
            }
        }

        impl Rules<$address> for Kernel {
            #[inline(always)]
            fn lookup_anywhere(
                &self,
                active: Active,
                direction: Direction,
                traffic: u32,
            ) -> Option<u32> {
                match sg_lookup_any(active.0, pack_query(direction, traffic), <$address>::ANY) {
                    0 => None,
                    rule => Some(rule),
                }
            }

            #[inline(always)]
            fn lookup_rule(
                &self,
                active: Active,
                direction: Direction,
                outside: $address,
                traffic: u32,
            ) -> Option<u32> {
                match $lookup(active.0, pack_query(direction, traffic), outside) {
                    0 => None,
                    rule => Some(rule),
                }
            }
        }
    };
}

family!(V4, FlowKey4, FLOWS_NEW_V4, FLOWS_PROVEN_V4, FRAGMENTS_V4, PREFIXES_V4, 32, sg_lookup_v4);
family!(V6, FlowKey6, FLOWS_NEW_V6, FLOWS_PROVEN_V6, FRAGMENTS_V6, PREFIXES_V6, 128, lookup_v6);

/// A BPF function takes words, not an array.
#[inline(always)]
fn lookup_v6(active: u64, query: u32, [first, second]: V6) -> u32 {
    sg_lookup_v6(active, query, first, second)
}

impl Policy for Kernel {
    #[inline(always)]
    fn active(&self) -> Active {
        // One aligned 64-bit load: `sg_set_active` stores the word with one store.
        Active(maps::ACTIVE.get(u32::from(globals::slot())).copied().unwrap_or(0))
    }

    #[inline(always)]
    fn class(&self, active: Active, class: u32, direction: Direction) -> Option<(List, u32)> {
        // Userspace changes only the other half of a row; it rewrites this half with equal words.
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

impl Dhcp for Kernel {
    #[inline(always)]
    fn track_dhcp(&self, direction: Direction, bytes: u32) -> bool {
        sg_dhcp(direction as u32, bytes) != 0
    }
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
