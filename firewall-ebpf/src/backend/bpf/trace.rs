//! Log lines of the traced programs, through aya-log.

use aya_log_ebpf::info;
use firewall_ebpf::abi::address::V6;
use firewall_ebpf::wire::packet::Packet;
use firewall_ebpf::wire::{Frame, HeadersByFamily, parse};

use super::view::Context;

/// Logs one line for a packet. Direction and reason are numbers, which userspace translates.
#[inline(always)]
pub(super) fn log<P: Packet + Context>(packet: &P, direction: u32, reason: u32) {
    let ctx = packet.context();
    let mut headers = HeadersByFamily::new();
    match parse(packet, &mut headers) {
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
        Ok(Frame::NonIp(ether_type)) => {
            info!(
                &ctx,
                "{} {} ethertype {:x} length {}",
                direction,
                reason,
                ether_type,
                packet.length()
            );
        }
        Err(_) => info!(&ctx, "{} {} length {}", direction, reason, packet.length()),
    }
}

#[inline(always)]
const fn octets(address: V6) -> [u8; 16] {
    // SAFETY: same size, and any bytes are valid octets.
    unsafe { core::mem::transmute(address) }
}
