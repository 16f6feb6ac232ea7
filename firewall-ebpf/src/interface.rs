//! The terms in which an interface is guarded: directions, orientation, states and their timeouts.

/// Which way a packet goes, as the protected endpoint sees it: a property of the packet, not of
/// the hook that saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Direction {
    /// Toward the inside.
    #[cfg_attr(feature = "clap", value(help = "Toward the protected end"))]
    Ingress = 0,
    /// From the inside.
    #[cfg_attr(feature = "clap", value(help = "From the protected end"))]
    Egress = 1,
}

impl Direction {
    /// Both directions, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The word used in the CLI, in metric labels and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The direction of the answer.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// Which end of the device is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Orientation {
    /// The device belongs to the protected host: what it receives is ingress.
    Host = 0,
    /// The device is the host's end of a VM's tap or a container's veth: what it receives is
    /// egress, because the guest behind it sent it.
    Guest = 1,
}

impl Orientation {
    /// The word used in the CLI and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }

    /// The direction of a packet that the device receives.
    #[must_use]
    pub const fn received(self) -> Direction {
        match self {
            Self::Host => Direction::Ingress,
            Self::Guest => Direction::Egress,
        }
    }

    /// The direction of a packet that the device transmits.
    #[must_use]
    pub const fn transmitted(self) -> Direction {
        self.received().opposite()
    }
}

/// How closely TCP is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum TcpChecks {
    /// Only what could end a connection is checked: a SYN-ACK must answer, a RST must have the
    /// expected number. What is out of place passes and changes nothing; the endpoints settle it.
    #[default]
    #[cfg_attr(feature = "clap", value(help = "Check SYN-ACK and RST, by their numbers"))]
    Guard = 0,
    /// Sequence and acknowledgement numbers must be in the window of their connection, which must
    /// have been seen from its first SYN. What is out of place is dropped.
    #[cfg_attr(feature = "clap", value(help = "Check all segments, by the windows as well"))]
    Strict = 1,
}

impl TcpChecks {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Guard, Self::Strict];

    /// The word used in the CLI and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Strict => "strict",
        }
    }
}

/// Whether the steady state of a flow may be looked for before anything else: the short way reads
/// Ethernet frames, and follows no windows.
#[must_use]
pub const fn glances(has_ethernet: bool, checks: TcpChecks) -> bool {
    has_ethernet && matches!(checks, TcpChecks::Guard)
}

/// Seconds for which a first fragment's verdict is remembered: as long as a Linux host waits for
/// the rest of a packet (net.ipv4.ipfrag_time, net.ipv6.ip6frag_time has twice as much).
pub const FRAGMENT_TIMEOUT: u32 = 30;

macro_rules! states {
    ($($name:ident = $number:literal, $text:literal, $timeout:literal, $default:expr, $help:literal;)*) => {
        /// What a flow is doing, which says how long it may be idle. TCP's names are RFC 9293's,
        /// seen from the middle as nf_conntrack sees them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
        pub enum State {
            $(#[doc = $help] $name = $number,)*
        }

        impl State {
            /// Every state, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word used in `flows list`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The name of the state's idle timeout: EC2's where EC2 has one, else in its manner.
            #[must_use]
            pub const fn timeout_name(self) -> &'static str {
                match self { $(Self::$name => $timeout,)* }
            }

            /// The idle timeout in seconds when the interface names none.
            #[must_use]
            pub const fn default_timeout(self) -> u32 {
                match self { $(Self::$name => $default,)* }
            }

            /// What the state means, and why its timeout is what it is.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }

            /// The state with this number, as stored in a flow.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

states! {
    SynSent = 0, "syn-sent", "TcpSynSentTimeout", 120, "The initiator's SYN was seen. 120 s: a client's default of six SYN retries takes 127 s.";
    SynRecv = 1, "syn-recv", "TcpSynRecvTimeout", 60, "The responder's SYN-ACK was seen. 60 s: what a listener's five SYN-ACK retries take.";
    Established = 2, "established", "TcpEstablishedTimeout", 432_000, "The handshake is over. 5 days: EC2's default off its newest hardware, and nf_conntrack's.";
    FinWait = 3, "fin-wait", "TcpFinWaitTimeout", 120, "One end sent FIN. 120 s: two maximum segment lifetimes for the other end to acknowledge.";
    CloseWait = 4, "close-wait", "TcpCloseWaitTimeout", 60, "The FIN was acknowledged; the other end may still send. 60 s, refreshed by what it sends.";
    LastAck = 5, "last-ack", "TcpLastAckTimeout", 30, "Both ends sent FIN. 30 s for the last acknowledgement.";
    TimeWait = 6, "time-wait", "TcpTimeWaitTimeout", 120, "Closed by both; late segments still belong here. 120 s: RFC 9293's two segment lifetimes.";
    Close = 7, "close", "TcpCloseTimeout", 10, "A RST was seen. 10 s for what is still on the way.";
    Udp = 8, "udp", "UdpTimeout", 30, "UDP in one direction, or one request and its response.";
    UdpStream = 9, "udp-stream", "UdpStreamTimeout", 180, "UDP after more than one request and response.";
    Icmp = 10, "icmp", "IcmpTimeout", 30, "ICMP or ICMPv6 request and reply. 30 s, nf_conntrack's; EC2 states none.";
    Other = 11, "other", "OtherTimeout", 600, "Any other IP protocol, tracked by its addresses. EC2's fixed 600 s.";
}
