//! Packets as XDP and TCX provide them.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::verdict::claim::Claim;
use firewall_ebpf::verdict::tables::PortSecurity;
use firewall_ebpf::wire::LinkMessage;
use firewall_ebpf::wire::packet::{Packet, Wire};

use super::subprograms::{
    sg_arp_skb, sg_arp_xdp, sg_forget, sg_message_skb, sg_message_xdp, sg_port_skb, sg_port_xdp,
    sg_scale_skb, sg_scale_xdp,
};
use super::tables::Kernel;

/// The hook's context, for tracing.
pub(super) trait Context {
    /// The context type of aya-log.
    type Raw: EbpfContext;

    /// The hook's context.
    fn context(&self) -> Self::Raw;
}

/// The linear head of a packet.
#[derive(Clone, Copy)]
struct Linear {
    start: usize,
    end: usize,
}

impl Linear {
    #[inline(always)]
    fn read<T: Wire>(self, offset: u32) -> Option<T> {
        let at = self.start + offset as usize;
        if at + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: within the packet, as the verifier checks again. The address may be odd where
        // T's alignment is 4: BPF requires no alignment, the verifier allows it for packet pointers
        // on machines that load unaligned words, and `read_unaligned` would compile to a load for
        // every byte (64 instead of 52 ns for an IPv6 lookup).
        Some(unsafe { (at as *const T).read() })
    }
}

/// A packet at XDP.
pub(super) struct Xdp {
    ctx: *mut xdp_md,
    linear: Linear,
    has_ethernet: bool,
}

impl Xdp {
    #[inline(always)]
    pub(super) fn new(ctx: *mut xdp_md, has_ethernet: bool) -> Self {
        let view = XdpContext::new(ctx);
        Self { ctx, linear: Linear { start: view.data(), end: view.data_end() }, has_ethernet }
    }
}

impl Xdp {
    /// The hook's context.
    #[inline(always)]
    pub(super) const fn raw(&self) -> *mut xdp_md {
        self.ctx
    }
}

impl Packet for Xdp {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is the kernel's. Counts every buffer of the frame; never negative.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }

    /// Without the helper call, which costs a fifth of the fast path.
    #[inline(always)]
    fn linear_len(&self) -> u32 {
        (self.linear.end - self.linear.start) as u32
    }

    #[inline(always)]
    fn has_ethernet(&self) -> bool {
        self.has_ethernet
    }

    /// XDP runs before the kernel moves a tag into the metadata.
    #[inline(always)]
    fn metadata_tags(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        sg_forget(number)
    }

    #[inline(always)]
    fn is_segmented(&self) -> bool {
        false
    }

    #[inline(always)]
    fn head<T: Wire>(&self, offset: u32) -> Option<T> {
        self.linear.read(offset)
    }

    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        let into = value.as_mut_ptr().cast::<c_void>();
        // SAFETY: the helper fills the whole of `value` or returns an error.
        unsafe {
            if bpf_xdp_load_bytes(self.ctx, offset, into, size_of::<T>() as u32) != 0 {
                return None;
            }
            Some(value.assume_init())
        }
    }

    #[inline(always)]
    fn window_scale(&self, at: u32, end: u32) -> u8 {
        sg_scale_xdp(self.ctx, at, end) as u8
    }

    #[inline(always)]
    fn is_link_message(&self, ip: u32, at: u32, end: u32, message: LinkMessage) -> bool {
        sg_message_xdp(self.ctx, ip, at, end, message as u32) != 0
    }
}

impl Context for Xdp {
    type Raw = XdpContext;

    #[inline(always)]
    fn context(&self) -> XdpContext {
        XdpContext::new(self.ctx)
    }
}

/// A packet at TCX.
pub(super) struct Skb {
    ctx: *mut __sk_buff,
    linear: Linear,
    has_ethernet: bool,
}

impl Skb {
    #[inline(always)]
    pub(super) fn new(ctx: *mut __sk_buff, has_ethernet: bool) -> Self {
        let view = TcContext::new(ctx);
        Self { ctx, linear: Linear { start: view.data(), end: view.data_end() }, has_ethernet }
    }
}

impl Skb {
    /// The hook's context.
    #[inline(always)]
    pub(super) const fn raw(&self) -> *mut __sk_buff {
        self.ctx
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.ctx).len }
    }

    #[inline(always)]
    fn linear_len(&self) -> u32 {
        self.length()
    }

    #[inline(always)]
    fn has_ethernet(&self) -> bool {
        self.has_ethernet
    }

    #[inline(always)]
    fn metadata_tags(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.ctx).vlan_present }
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        sg_forget(number)
    }

    #[inline(always)]
    fn is_segmented(&self) -> bool {
        // SAFETY: the context is the kernel's. The field exists since Linux 5.7.
        unsafe { (*self.ctx).gso_size != 0 }
    }

    #[inline(always)]
    fn head<T: Wire>(&self, offset: u32) -> Option<T> {
        self.linear.read(offset)
    }

    /// Reads page fragments too, so nothing needs to be pulled into the linear head.
    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        let into = value.as_mut_ptr().cast::<c_void>();
        // SAFETY: the helper fills the whole of `value` or returns an error.
        unsafe {
            if bpf_skb_load_bytes(self.ctx.cast(), offset, into, size_of::<T>() as u32) != 0 {
                return None;
            }
            Some(value.assume_init())
        }
    }

    #[inline(always)]
    fn window_scale(&self, at: u32, end: u32) -> u8 {
        sg_scale_skb(self.ctx, at, end) as u8
    }

    #[inline(always)]
    fn is_link_message(&self, ip: u32, at: u32, end: u32, message: LinkMessage) -> bool {
        sg_message_skb(self.ctx, ip, at, end, message as u32) != 0
    }
}

impl Context for Skb {
    type Raw = TcContext;

    #[inline(always)]
    fn context(&self) -> TcContext {
        TcContext::new(self.ctx)
    }
}

impl PortSecurity<Xdp> for Kernel {
    #[inline(always)]
    fn check_port(&self, packet: &Xdp, claim: Claim) -> Result<(), Reason> {
        let Claim { what, ports, address: [first, second] } = claim;
        let what = what | u64::from(self.settings_index());
        result(sg_port_xdp(packet.ctx, what, ports, first, second))
    }

    #[inline(always)]
    fn is_own_arp(&self, packet: &Xdp) -> bool {
        sg_arp_xdp(packet.ctx, self.settings_index()) != 0
    }
}

impl PortSecurity<Skb> for Kernel {
    #[inline(always)]
    fn check_port(&self, packet: &Skb, claim: Claim) -> Result<(), Reason> {
        let Claim { what, ports, address: [first, second] } = claim;
        let what = what | u64::from(self.settings_index());
        result(sg_port_skb(packet.ctx, what, ports, first, second))
    }

    #[inline(always)]
    fn is_own_arp(&self, packet: &Skb) -> bool {
        sg_arp_skb(packet.ctx, self.settings_index()) != 0
    }
}

/// The result of port security as a BPF function returns it: a reason to drop, or 0.
#[inline(always)]
fn result(number: u32) -> Result<(), Reason> {
    if number == 0 {
        return Ok(());
    }
    // Of the numbers below 256 all are reasons.
    Err(Reason::from_number((number & 0xff) as u8).unwrap_or(Reason::SourceAddress))
}
