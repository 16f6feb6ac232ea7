//! The line that an explaining run prints about a packet, through aya-log: what the parser found in it, and what
//! the programs decided. Run by userspace after them, on the same frame, and attached nowhere.

use aya_ebpf::bindings::__sk_buff;
use aya_log_ebpf::info;
use firewall_ebpf::abi::address::V6;
use firewall_ebpf::abi::helper::unpack_explained;
use firewall_ebpf::wire::packet::Packet as _;
use firewall_ebpf::wire::{Frame, HeadersByFamily, parse};

use super::globals;
use super::view::{Context as _, Skb};

/// Prints a line. `abi::helper::pack_explained` is in the mark of the skb; userspace translates its numbers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_explain(ctx: *mut __sk_buff) -> i32 {
    let packet = Skb::new(ctx, globals::has_ethernet());
    // SAFETY: the context is the kernel's.
    let (direction, reason) = unpack_explained(unsafe { (*ctx).mark });
    let ctx = packet.context();
    let mut headers = HeadersByFamily::new();
    match parse(&packet, &mut headers) {
        Ok(Frame::V4) => info!(
            &ctx,
            "{} {} proto {} {:i}:{} > {:i}:{} length {}",
            direction,
            reason,
            headers.v4.protocol,
            u32::from_be(headers.v4.src),
            u16::from_be(headers.v4.src_port()),
            u32::from_be(headers.v4.dst),
            u16::from_be(headers.v4.dst_port()),
            packet.length()
        ),
        Ok(Frame::V6) => info!(
            &ctx,
            "{} {} proto {} [{:i}]:{} > [{:i}]:{} length {}",
            direction,
            reason,
            headers.v6.protocol,
            octets(headers.v6.src),
            u16::from_be(headers.v6.src_port()),
            octets(headers.v6.dst),
            u16::from_be(headers.v6.dst_port()),
            packet.length()
        ),
        Ok(Frame::NonIp(ether_type)) => info!(
            &ctx,
            "{} {} ethertype {:x} length {}",
            direction,
            reason,
            ether_type,
            packet.length()
        ),
        Err(found) => info!(
            &ctx,
            "{} {} does not parse ({}) length {}",
            direction,
            reason,
            found as u32,
            packet.length()
        ),
    }
    0
}

#[inline(always)]
const fn octets(address: V6) -> [u8; 16] {
    // SAFETY: same size, and any bytes are valid octets.
    unsafe { core::mem::transmute(address) }
}
