//! Packets by the million, for `cargo xtask bench --peers`. Userspace runs these programs by
//! `BPF_PROG_TEST_RUN` with live frames: its frame, a UDP datagram, leaves through a device again and
//! again, each time as a packet of another flow.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;

/// The device's number, which the loader sets.
#[unsafe(no_mangle)]
static GENERATOR_DEVICE: Global<u32> = Global::new(0);
/// Number of flows that [`generate_known`] sends packets of, a power of two, which the loader sets.
#[unsafe(no_mangle)]
static GENERATOR_FLOWS: Global<u16> = Global::new(1);

/// Packets generated so far, from which the next packet's flow is computed. One CPU at a time
/// generates.
#[btf_map]
static GENERATOR_COUNT: Array<u32, 1> = Array::new();

/// Packets that [`drop_xdp`] has seen.
#[btf_map]
static GENERATOR_DROPPED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Offsets in the frame: Ethernet, IPv4 without options, UDP.
const IDENTIFICATION: usize = 18;
const SOURCE_MIDDLE: usize = 27;
const SOURCE_PORT: usize = 34;
const END: usize = 42;

/// The same for IPv6. Two words of data after the headers compensate for the fields that change, so
/// that the datagram's checksum stays valid: with an invalid one it would not reach its socket.
const SOURCE_NETWORK_V6: usize = 28;
const SOURCE_PORT_V6: usize = 54;
const NETWORK_BALANCE: usize = 62;
const PORT_BALANCE: usize = 64;
const END_V6: usize = 66;

/// Odd, so that the products of 65,536 successive numbers differ in 16 bits, and do not ascend.
const SCATTER: u32 = 40_503;

/// A packet from each of 8,192 hosts in turn, each time from another port: the second octet of the
/// address is below 64, the third one odd.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn generate_foreign(ctx: *mut xdp_md) -> u32 {
    send::<END>(ctx, |data, count| {
        let host = count.wrapping_mul(SCATTER) & 0x1fff;
        let middle = u16::from_le_bytes([(host & 63) as u8, (host >> 6 << 1) as u8 | 1]);
        // SAFETY: `send` has checked that the headers are there; BPF has no alignment of its own.
        unsafe {
            *((data + SOURCE_MIDDLE) as *mut u16) = middle.to_le();
            // The sum of both is the same for every host, and so the header's checksum.
            *((data + IDENTIFICATION) as *mut u16) = (!middle).to_be();
            *((data + SOURCE_PORT) as *mut u16) = (0x4000 | (count >> 13) as u16).to_be();
        }
    })
}

/// A packet from the frame's own host, from each of its ports in turn: the lowest bits of the port
/// change.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn generate_known(ctx: *mut xdp_md) -> u32 {
    send::<END>(ctx, |data, count| {
        let changing = GENERATOR_FLOWS.load().wrapping_sub(1);
        // SAFETY: as above.
        unsafe {
            let port = (data + SOURCE_PORT) as *mut u16;
            let number = u16::from_be(*port) & !changing;
            *port = (number | (count.wrapping_mul(SCATTER) as u16 & changing)).to_be();
        }
    })
}

/// As [`generate_foreign`]: from each of 8,192 hosts in turn; the fourth word of the address is odd.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn generate_foreign_v6(ctx: *mut xdp_md) -> u32 {
    send::<END_V6>(ctx, |data, count| {
        let network = ((count.wrapping_mul(SCATTER) & 0x1fff) << 1 | 1) as u16;
        let port = 0x4000 | (count >> 13) as u16;
        write(data + SOURCE_NETWORK_V6, network);
        write(data + NETWORK_BALANCE, !network);
        write(data + SOURCE_PORT_V6, port);
        write(data + PORT_BALANCE, !port);
    })
}

/// As [`generate_known`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn generate_known_v6(ctx: *mut xdp_md) -> u32 {
    send::<END_V6>(ctx, |data, count| {
        let changing = GENERATOR_FLOWS.load().wrapping_sub(1);
        // SAFETY: as in `write`.
        let port = u16::from_be(unsafe { *((data + SOURCE_PORT_V6) as *const u16) });
        let port = port & !changing | count.wrapping_mul(SCATTER) as u16 & changing;
        write(data + SOURCE_PORT_V6, port);
        write(data + PORT_BALANCE, !port);
    })
}

/// Writes a word of the packet, big-endian.
#[inline(always)]
fn write(at: usize, word: u16) {
    // SAFETY: `send` has checked that the headers are there; BPF has no alignment of its own.
    unsafe { *(at as *mut u16) = word.to_be() };
}

/// Changes the next packet, of at least `BYTES` bytes, and sends it.
#[inline(always)]
fn send<const BYTES: usize>(ctx: *mut xdp_md, change: impl FnOnce(usize, u32)) -> u32 {
    let view = XdpContext::new(ctx);
    let (data, end) = (view.data(), view.data_end());
    let Some(count) = GENERATOR_COUNT.get_ptr_mut(0) else { return XDP_ABORTED };
    if data + BYTES > end {
        return XDP_ABORTED;
    }
    // SAFETY: arrays are allocated when they are created; no other CPU writes meanwhile.
    let number = unsafe { *count };
    // SAFETY: as above.
    unsafe { *count = number.wrapping_add(1) };
    change(data, number);
    // SAFETY: takes two numbers.
    let action = unsafe { bpf_redirect(GENERATOR_DEVICE.load(), 0) };
    u32::try_from(action).unwrap_or(XDP_ABORTED)
}

/// Drops and counts every packet: the cost without a firewall and without socket buffers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn drop_xdp(_: *mut xdp_md) -> u32 {
    if let Some(dropped) = GENERATOR_DROPPED.get_ptr_mut(0) {
        // SAFETY: this CPU's own.
        unsafe { *dropped += 1 };
    }
    XDP_DROP
}
