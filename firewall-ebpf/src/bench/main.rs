//! What `cargo xtask bench` measures the kernel program against: the least that a stateful
//! firewall does, by the same compiler; and the generators of packets for it and its peers. Not part of
//! the product.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

/// On any other target the programs do not exist; cargo still needs a `main`.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod admission;
#[cfg(target_arch = "bpf")]
mod block;
#[cfg(target_arch = "bpf")]
mod generator;
#[cfg(target_arch = "bpf")]
mod key;
#[cfg(target_arch = "bpf")]
mod new_flow;

#[cfg(target_arch = "bpf")]
mod kernel {
    use aya_ebpf::bindings::{__sk_buff, xdp_md};
    use aya_ebpf::btf_maps::{LruHashMap, PerCpuArray, ProgramArray};
    use aya_ebpf::helpers::generated::bpf_jiffies64;
    use aya_ebpf::macros::btf_map;
    use aya_ebpf::programs::{TcContext, XdpContext};
    use firewall_ebpf::abi::counter::Counter;
    use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6};

    use crate::key;

    /// The same keys, values and sizes as the product's tables.
    #[btf_map]
    static BENCH_V4: LruHashMap<FlowKey4, Flow, 262_144> = LruHashMap::new();
    #[btf_map]
    static BENCH_V6: LruHashMap<FlowKey6, Flow, 262_144> = LruHashMap::new();
    #[btf_map]
    static BENCH_COUNTER: PerCpuArray<Counter, 2> = PerCpuArray::new();

    /// The program that runs after a packet was changed. One map for each hook: the kernel restricts
    /// such a map to one type of program.
    #[btf_map]
    static BENCH_NEXT_XDP: ProgramArray<1> = ProgramArray::new();
    #[btf_map]
    static BENCH_NEXT_TCX: ProgramArray<1> = ProgramArray::new();

    const PASS: u32 = 2;
    const DROP: u32 = 1;

    /// The cost of `BPF_PROG_TEST_RUN` itself.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "xdp.frags")]
    extern "C" fn empty_xdp(_: *mut xdp_md) -> u32 {
        PASS
    }

    /// The same for an skb.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "classifier")]
    extern "C" fn empty_tcx(_: *mut __sk_buff) -> i32 {
        0
    }

    /// Parse, one LRU lookup, timestamp, counter.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "xdp.frags")]
    extern "C" fn minimal_xdp(ctx: *mut xdp_md) -> u32 {
        let view = XdpContext::new(ctx);
        minimal(view.data(), view.data_end())
    }

    /// The same for an skb.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "classifier")]
    extern "C" fn minimal_tcx(ctx: *mut __sk_buff) -> i32 {
        let view = TcContext::new(ctx);
        minimal(view.data(), view.data_end()).cast_signed()
    }

    /// Changes the TCP packet into one of another connection and runs the next program. Changes
    /// stay in the packet of `BPF_PROG_TEST_RUN`, so that each repetition is of another flow.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "xdp.frags")]
    extern "C" fn renew_xdp(ctx: *mut xdp_md) -> u32 {
        let view = XdpContext::new(ctx);
        renew(view.data(), view.data_end());
        // SAFETY: the loader puts a program of the same kind there.
        unsafe { BENCH_NEXT_XDP.tail_call(&view, 0) };
        0
    }

    /// The same for an skb.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "classifier")]
    extern "C" fn renew_tcx(ctx: *mut __sk_buff) -> i32 {
        let view = TcContext::new(ctx);
        renew(view.data(), view.data_end());
        // SAFETY: as above.
        unsafe { BENCH_NEXT_TCX.tail_call(&view, 0) };
        1
    }

    /// The next source port, and after 65,536 of them the next host.
    #[inline(always)]
    fn renew(data: usize, end: usize) {
        if data + 56 > end {
            return;
        }
        // SAFETY: within the packet, as just checked; BPF has no alignment of its own.
        unsafe {
            let is_v4 = *((data + 12) as *const u16) == key::IPV4;
            let (port, host) = if is_v4 { (data + 34, data + 29) } else { (data + 54, data + 37) };
            let (port, host) = (port as *mut u16, host as *mut u8);
            *port = (*port).wrapping_add(1);
            if *port == 0 {
                *host = (*host).wrapping_add(1);
            }
        }
    }

    #[inline(always)]
    fn minimal(data: usize, end: usize) -> u32 {
        let bytes = end - data;
        let found = match key::ether_type(data, end) {
            Some(key::IPV4) => key::v4(data, end).and_then(|key| BENCH_V4.get_ptr_mut(key)),
            Some(key::IPV6) => key::v6(data, end).and_then(|key| BENCH_V6.get_ptr_mut(key)),
            _ => None,
        };
        let index = u32::from(found.is_none());
        if let Some(flow) = found {
            // SAFETY: the table is preallocated, so the record stays readable and writable.
            unsafe { (*flow).last_seen = bpf_jiffies64() };
        }
        if let Some(counter) = BENCH_COUNTER.get_ptr_mut(index) {
            // SAFETY: this CPU's own.
            unsafe {
                (*counter).packets += 1;
                (*counter).bytes += bytes as u64;
            }
        }
        if index == 0 { PASS } else { DROP }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
