//! What the fast path reads: constants of one interface's programs, and its own tables of proven flows.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::filter::Filter;
use firewall_ebpf::abi::flow::{FlowKey4, FlowKey6, Table};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::verdict::flow::FlowRef;
use firewall_ebpf::verdict::tables::{FastPathSettings, FlowLookup, Interface};
use firewall_ebpf::wire::packet::Packet;

use super::{globals, maps};

/// The interface whose programs these are.
pub(super) struct Entry;

impl Interface for Entry {
    #[inline(always)]
    fn slot(&self) -> u16 {
        globals::slot()
    }

    #[inline(always)]
    fn timeout(&self, state: State) -> u64 {
        globals::timeout(state)
    }

    #[inline(always)]
    fn revalidates(&self) -> bool {
        globals::revalidates()
    }

    #[inline(always)]
    fn active(&self) -> Active {
        maps::active(globals::slot())
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes no argument and has no effect. The verifier inlines it as one load.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn own_mac(&self) -> u64 {
        globals::own_mac()
    }
}

impl FastPathSettings for Entry {
    #[inline(always)]
    fn has_fast_path<P: Packet>(&self, _: &P) -> bool {
        globals::has_fast_path()
    }

    #[inline(always)]
    fn under_flood(&self) -> bool {
        maps::under_flood(globals::slot(), || self.now())
    }

    #[inline(always)]
    fn filter(&self, active: Active) -> Filter {
        maps::filter(active)
    }
}

macro_rules! family {
    ($address:ty, $key:ty, $tcp:ident, $udp:ident) => {
        impl FlowLookup<$address> for Entry {
            #[inline(always)]
            fn lookup(&self, table: Table, key: &$key) -> Option<FlowRef<'_>> {
                let record = match table {
                    Table::Tcp => maps::$tcp.get_ptr_mut(key),
                    Table::Udp => maps::$udp.get_ptr_mut(key),
                    Table::New => return None,
                }?;
                // SAFETY: see `FlowLookup` of `Kernel`.
                Some(unsafe { FlowRef::new(record) })
            }
        }
    };
}

family!(V4, FlowKey4, OWN_TCP_V4, OWN_UDP_V4);
family!(V6, FlowKey6, OWN_TCP_V6, OWN_UDP_V6);
