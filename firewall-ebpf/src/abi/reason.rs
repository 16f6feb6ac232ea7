//! Why a packet passed or was dropped. Declared once: the kernel counts by number; the CLI, metrics
//! and documents take name and help text from here.

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The packet passes.
    Pass,
    /// The packet is dropped.
    Drop,
}

impl Verdict {
    /// The word used in metric labels and in the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

/// Packets with a reason below this number pass, others are dropped.
const FIRST_DROP: u32 = 16;

/// The verdict of the reason with this number.
#[must_use]
#[inline(always)]
pub const fn verdict(reason: u32) -> Verdict {
    if reason < FIRST_DROP { Verdict::Pass } else { Verdict::Drop }
}

/// Counters reserved for the reasons of one interface and direction: reasons can be appended without
/// a new layout.
pub const REASON_SPACE: u32 = 64;

macro_rules! reasons {
    ($($name:ident = $number:literal, $text:literal, $help:literal;)*) => {
        /// Every packet is counted under exactly one of these. Numbers and names are append-only:
        /// dashboards and logs depend on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $help] $name = $number,)*
        }

        impl Reason {
            /// Every reason, passing ones first.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name, in metric labels and in `stats`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// One sentence that explains it.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }

            /// The reason with this number, as counted in the kernel.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }

        const _: () = { $(assert!($number < REASON_SPACE);)* };
    };
}

impl Reason {
    /// Whether a packet with this reason passes.
    #[must_use]
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        verdict(self as u32)
    }
}

reasons! {
    // Passing.
    Established = 0, "established", "The packet belongs to a live flow.";
    NewFlow = 1, "new-flow", "A rule allows the packet, and a flow was created for it.";
    Admitted = 2, "admitted", "A rule allows the packet; it has no reply, so no flow is created (ICMP other than request and reply, TCP RST).";
    Arp = 3, "arp", "ARP is exempt: it is not IP and no rule can match it.";
    LinkControl = 4, "link-control", "A control frame of the link (LLDP, EAPOL, LACP, spanning tree and other 802.2 LLC) to 01:80:c2:00:00:00 to 0f, which bridges do not forward, is exempt.";
    NonIpAllowed = 5, "non-ip-allowed", "The interface was attached with --non-ip all, or with --ether-type and the EtherType of the frame.";
    NeighbourDiscovery = 6, "neighbour-discovery", "IPv6 neighbour and router discovery with hop limit 255 and valid, known options is exempt.";
    Dhcp = 7, "dhcp", "Exempt: an inside DHCP client's message, the answer within UdpTimeout, and DHCPv6 between link-local addresses.";
    Related = 8, "related", "An ICMP error about a packet of a live flow, or of untracked traffic.";
    LaterFragment = 9, "later-fragment", "A fragment other than the first, of a packet whose first fragment passed.";
    Untracked = 10, "untracked", "Rules allow the packet and every reply to it, from anywhere: no flow is created.";
    MulticastMembership = 11, "multicast-membership", "MLD and IGMP on the link are exempt: queries to the inside, reports and leaves from it.";
    // Dropping: rules and flows.
    NoRule = 16, "no-rule", "No rule of the attached groups allows the packet, and it belongs to no flow.";
    NoPolicy = 17, "no-policy", "The interface has no policy yet: nothing passes until the first one is active.";
    UnsolicitedSynAck = 18, "unsolicited-syn-ack", "A TCP SYN-ACK that belongs to no flow.";
    FlowTableFull = 19, "flow-table-full", "A rule allows the packet, but its flow could not be stored, so replies would be dropped.";
    // Dropping: what does not parse.
    TruncatedFrame = 20, "truncated-frame", "The frame ends before its headers do.";
    NonIp = 21, "non-ip", "Neither IP nor an exempt frame.";
    VlanDepth = 22, "vlan-depth", "More than two VLAN tags.";
    IpVersion = 23, "ip-version", "The IP version field does not match the EtherType.";
    IpHeaderLength = 24, "ip-header-length", "The IPv4 header length is under 20 bytes.";
    IpTotalLength = 25, "ip-total-length", "The IP length field is shorter than the headers or longer than the frame, or a fragment ends beyond 65,535 bytes.";
    ExtensionHeaders = 26, "extension-headers", "More than eight IPv6 extension headers, or a hop-by-hop header that is not the first.";
    RoutingHeader0 = 27, "routing-header-0", "IPv6 routing header type 0, which RFC 5095 forbids.";
    NoNextHeader = 28, "no-next-header", "IPv6 next header 59: there is no transport header.";
    TcpHeader = 29, "tcp-header", "The TCP header is truncated, or its length field is under 20 bytes or exceeds the packet.";
    TcpFlags = 30, "tcp-flags", "A combination of TCP flags that no stack sends.";
    UdpHeader = 31, "udp-header", "The UDP header is truncated, or its length field is under 8 bytes.";
    IcmpHeader = 32, "icmp-header", "The ICMP or ICMPv6 header is truncated.";
    NeighbourDiscoveryInvalid = 33, "neighbour-discovery-invalid", "Neighbour or router discovery with a hop limit other than 255, which came from beyond the link, fragmented or with extension headers, with unknown options, or not valid (RFC 4861, RFC 6980).";
    // Dropping: fragments.
    Fragment = 34, "fragment", "A fragment other than the first, of a packet whose first fragment was dropped, or did not come in the 30 s before.";
    TinyFragment = 35, "tiny-fragment", "A first fragment without its whole transport header, or a TCP fragment at offset 8 (RFC 1858, RFC 3128).";
    FragmentOverlap = 36, "fragment-overlap", "A later fragment that overlaps the first one (RFC 5722).";
    // Dropping: what contradicts a flow.
    IcmpErrorInvalid = 37, "icmp-error-invalid", "An ICMP error whose embedded packet was not sent by the receiver of the error, or has less than eight bytes after its IP header.";
    TcpWindow = 38, "tcp-window", "Strict TCP: sequence or acknowledgement number outside of the connection's window.";
    TcpReset = 39, "tcp-reset", "Strict TCP: a RST without the expected sequence number.";
    TcpNotOpened = 40, "tcp-not-opened", "A TCP ACK or FIN of no flow, though a rule allows it, on an interface with --tcp-loose off or --tcp strict.";
    Revoked = 41, "revoked", "The packet belongs to a flow that no rule allows any more, on an interface with --revalidate on.";
    // Dropping: network ACLs and blocks.
    Acl = 42, "acl", "An entry of the interface's network ACL denies the packet: a numbered one, or the last of its direction, which denies all.";
    Blocked = 43, "blocked", "The packet's outside address is blocked, on this interface or on all of them.";
    // Dropping: port security of a guest. Numbers from 48 on, so that others can be appended in between.
    SourceMac = 48, "source-mac", "From a guest: the source MAC address is not the declared one (--mac).";
    SourceAddress = 49, "source-address", "From a guest: the source address is not one of its own (--source-dest-check).";
    DestinationAddress = 50, "destination-address", "To a guest: the destination is neither one of its own addresses nor multicast or broadcast (--source-dest-check).";
    ArpSender = 51, "arp-sender", "ARP from a guest: the sender's MAC address is not that of the frame, or its IP address is not the guest's; or ARP that is not for IPv4 over Ethernet.";
    NeighbourTarget = 52, "neighbour-target", "Neighbour discovery from a guest: it advertises, or checks for duplicates of, an address that is not its own.";
    RouterAdvertisement = 53, "router-advertisement", "A router advertisement (ICMPv6 134, ICMP 9) from a guest without --guest-router on (RFC 6105).";
    Redirect = 54, "redirect", "A redirect (ICMPv6 137, ICMP 5) from a guest without --guest-router on.";
    DhcpServer = 55, "dhcp-server", "UDP to the port of a DHCP client (68; IPv6: 546) from a guest without --guest-router on.";
    Bpdu = 56, "bpdu", "An 802.2 LLC frame to 01:80:c2:00:00:00 to 0f (spanning tree) from a guest.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_help_are_one_to_one() {
        for (index, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from_number(reason as u8), Some(reason));
            assert!(reason.help().ends_with('.'), "{reason:?}: help is a sentence");
            assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b"-0".contains(&b)));
            for &other in &Reason::ALL[..index] {
                assert_ne!(reason.name(), other.name());
                assert!((other as u8) < reason as u8, "declared in the order of their numbers");
            }
        }
    }

    #[test]
    fn only_exempt_and_allowed_traffic_passes() {
        let passing = Reason::ALL.iter().filter(|r| r.verdict() == Verdict::Pass).count();
        assert_eq!(passing, 12);
        assert_eq!(Reason::NoRule.verdict(), Verdict::Drop);
    }
}
