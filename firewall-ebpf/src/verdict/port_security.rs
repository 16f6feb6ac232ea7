//! Port security: what a guest may send as its own, and what may be sent to it. Checked before the
//! exemptions and the rules, with the record that userspace has written for the interface.
//!
//! The fast path checks the MAC address only: a flow's key has the inside address, and the packet that
//! created the flow was checked. Userspace removes the flows of other addresses when a check changes.

use super::claim::Claim;
use super::tables::{PortSecurity, SlowPathSettings};
use crate::abi::address::{V4, V6};
use crate::abi::interface::Direction;
use crate::abi::port::{PortChecks, PortSecurity as Record};
use crate::abi::reason::Reason;
use crate::wire::address::Address;
use crate::wire::assigned::{icmp, icmpv6, port};
use crate::wire::headers::{Kind, PacketHeaders};
use crate::wire::packet::Packet;
use crate::wire::{protocol, read_arp};

/// Whether the record has checks for packets of this direction.
#[inline(always)]
fn has_checks<T: SlowPathSettings>(tables: &T, direction: Direction) -> bool {
    let checks = tables.port_checks();
    match direction {
        Direction::Ingress => checks.has(PortChecks::ADDRESSES),
        Direction::Egress => checks != PortChecks::NONE,
    }
}

/// Checks an IP packet.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub(super) fn check_ip<A: Address, P: Packet, T: SlowPathSettings + PortSecurity<P>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    headers: &PacketHeaders<A>,
) -> Result<(), Reason> {
    if !has_checks(tables, direction) {
        return Ok(());
    }
    tables.check_port(packet, Claim::new(direction, headers))
}

/// Checks a frame that is not IP, whose reason is `reason` otherwise.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub(super) fn check_non_ip<P: Packet, T: SlowPathSettings + PortSecurity<P>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    reason: Reason,
    is_llc: bool,
) -> Result<(), Reason> {
    if matches!(direction, Direction::Ingress) || !has_checks(tables, direction) {
        return Ok(());
    }
    let checks = tables.port_checks();
    if !has_own_mac(packet, true, tables.own_mac()) {
        return Err(Reason::SourceMac);
    }
    match reason {
        Reason::LinkControl if is_llc && checks.has(PortChecks::BRIDGE) => Err(Reason::Bpdu),
        Reason::Arp if checks.has(PortChecks::ADDRESSES) && !tables.is_own_arp(packet) => {
            Err(Reason::ArpSender)
        }
        _ => Ok(()),
    }
}

/// Whether a frame of this direction may have its source MAC address. `own` is that of the guest, or 0.
#[inline(always)]
pub fn has_own_mac<P: Packet>(packet: &P, is_egress: bool, own: u64) -> bool {
    if own == 0 || !is_egress || !packet.has_ethernet() {
        return true;
    }
    // Two octets of the destination, then the source.
    packet.head::<[u64; 1]>(4).is_some_and(|[word]| word >> 16 == own)
}

/// Checks an IP packet with the record of its interface.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn check<P: Packet>(packet: &P, record: &Record, claim: Claim) -> Result<(), Reason> {
    if !claim.is_egress() {
        return check_destination(packet, record, claim);
    }
    if !has_own_mac(packet, true, record.mac) {
        return Err(Reason::SourceMac);
    }
    check_sender(packet, record, claim)
}

/// Whether the sender of an ARP message is the guest. A probe (RFC 5227) has no sender address: it asks
/// for an address that its sender wants to use.
#[inline(always)]
pub fn is_own_arp<P: Packet>(packet: &P, record: &Record) -> bool {
    read_arp(packet).is_some_and(|message| {
        let claimed = if message.sender == 0 { message.target } else { message.sender };
        claimed.is_own(record)
    })
}

#[inline(always)]
fn check_destination<P: Packet>(packet: &P, record: &Record, claim: Claim) -> Result<(), Reason> {
    if is_own(record, claim) || is_group(claim) || is_to_group(packet) {
        Ok(())
    } else {
        Err(Reason::DestinationAddress)
    }
}

#[inline(always)]
fn check_sender<P: Packet>(packet: &P, record: &Record, claim: Claim) -> Result<(), Reason> {
    if record.checks.has(PortChecks::SERVICES)
        && let Some(reason) = service(claim)
    {
        return Err(reason);
    }
    if !record.checks.has(PortChecks::ADDRESSES) {
        return Ok(());
    }
    let has_address = claim.address[0] != 0 || claim.address[1] != 0;
    let may_send = if has_address { is_own(record, claim) } else { needs_no_address(claim) };
    if !may_send {
        return Err(Reason::SourceAddress);
    }
    // RFC 4861, sections 4.3 and 4.4: the target follows the header.
    if claims_target(claim, has_address)
        && !packet.load::<V6>(claim.at() + 8).is_some_and(|target| target.is_own(record))
    {
        return Err(Reason::NeighbourTarget);
    }
    Ok(())
}

/// Whether the inside address is one of the guest's.
#[inline(always)]
fn is_own(record: &Record, claim: Claim) -> bool {
    if claim.is_v4() { v4(claim).is_own(record) } else { claim.address.is_own(record) }
}

#[inline(always)]
fn is_group(claim: Claim) -> bool {
    if claim.is_v4() { v4(claim).is_group() } else { claim.address.is_group() }
}

#[inline(always)]
const fn v4(claim: Claim) -> V4 {
    (claim.address[0] & 0xffff_ffff) as V4
}

/// Whether the frame goes to a group of hosts: multicast or broadcast, of which that of a subnet cannot
/// be recognised by its IP address.
#[inline(always)]
fn is_to_group<P: Packet>(packet: &P) -> bool {
    packet.has_ethernet() && packet.head::<u16>(0).is_some_and(|first| first & 1 != 0)
}

/// The reason for a message of a router or a DHCP server. A client accepts a DHCP message from any port,
/// so the server's port is not compared. The parser has found the ICMPv6 header behind any extension
/// headers, and a first fragment without it is invalid: RFC 7113 has the evasions.
#[inline(always)]
fn service(claim: Claim) -> Option<Reason> {
    if claim.is(Kind::Udp) {
        let client = if claim.is_v4() { port::DHCP_CLIENT } else { port::DHCPV6_CLIENT };
        return (claim.dst_port() == client.to_be()).then_some(Reason::DhcpServer);
    }
    if !claim.is(Kind::Message) {
        return None;
    }
    let (advertisement, redirect) = if claim.is_v4() {
        (icmp::ROUTER_ADVERTISEMENT, icmp::REDIRECT)
    } else {
        (icmpv6::ROUTER_ADVERTISEMENT, icmpv6::REDIRECT)
    };
    match claim.icmp_type() {
        kind if kind == advertisement => Some(Reason::RouterAdvertisement),
        kind if kind == redirect => Some(Reason::Redirect),
        _ => None,
    }
}

/// Whether a host without an address may send the packet: DHCP (RFC 2131) and IGMP (RFC 3376, section
/// 4.2.13); router solicitation, the check for duplicates (RFC 4862) and MLD (RFC 3590).
#[inline(always)]
fn needs_no_address(claim: Claim) -> bool {
    if claim.is_v4() {
        return if claim.is(Kind::Udp) {
            claim.src_port() == port::DHCP_CLIENT.to_be()
                && claim.dst_port() == port::DHCP_SERVER.to_be()
        } else {
            claim.is(Kind::Other) && claim.protocol() == protocol::IGMP
        };
    }
    claim.is(Kind::Message)
        && matches!(
            claim.icmp_type(),
            icmpv6::ROUTER_SOLICITATION
                | icmpv6::NEIGHBOUR_SOLICITATION
                | icmpv6::MLD_REPORT
                | icmpv6::MLD_DONE
                | icmpv6::MLDV2_REPORT
        )
}

/// Whether the packet claims its target address: a neighbour advertisement, or the check for duplicates.
#[inline(always)]
fn claims_target(claim: Claim, has_address: bool) -> bool {
    !claim.is_v4()
        && claim.is(Kind::Message)
        && match claim.icmp_type() {
            icmpv6::NEIGHBOUR_ADVERTISEMENT => true,
            icmpv6::NEIGHBOUR_SOLICITATION => !has_address,
            _ => false,
        }
}
