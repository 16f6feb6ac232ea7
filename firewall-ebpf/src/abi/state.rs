//! The states of a flow and their idle timeouts.

macro_rules! states {
    ($($name:ident = $number:literal, $text:literal, $timeout:literal, $default:expr, $help:literal;)*) => {
        /// The state of a flow, which determines its idle timeout. TCP's names are RFC 9293's, with
        /// nf_conntrack's meaning for a middlebox.
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

            /// The name of the state's idle timeout: EC2's where EC2 has one, else in the same style.
            #[must_use]
            pub const fn timeout_name(self) -> &'static str {
                match self { $(Self::$name => $timeout,)* }
            }

            /// The idle timeout in seconds where the interface sets none.
            #[must_use]
            pub const fn default_timeout(self) -> u32 {
                match self { $(Self::$name => $default,)* }
            }

            /// What the state means, and the reason for its timeout.
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
    SynSent = 0, "syn-sent", "TcpSynSentTimeout", 120, "The initiator's SYN was seen. 120 s, as in nf_conntrack; a client with six SYN retries gives up after 127 s.";
    SynRecv = 1, "syn-recv", "TcpSynRecvTimeout", 60, "The responder's SYN-ACK was seen. 60 s: what a listener's five SYN-ACK retries take.";
    Established = 2, "established", "TcpEstablishedTimeout", 432_000, "The handshake is complete. 5 days: the default of nf_conntrack, and of EC2 except on its newest hardware.";
    FinWait = 3, "fin-wait", "TcpFinWaitTimeout", 120, "One end sent FIN. 120 s: two maximum segment lifetimes for the other end to acknowledge.";
    CloseWait = 4, "close-wait", "TcpCloseWaitTimeout", 60, "The FIN was acknowledged; the other end may still send. 60 s, restarted by each of its segments.";
    LastAck = 5, "last-ack", "TcpLastAckTimeout", 30, "Both ends sent FIN. 30 s for the last acknowledgement.";
    TimeWait = 6, "time-wait", "TcpTimeWaitTimeout", 120, "Both ends have closed; delayed segments still belong to the flow. 120 s: RFC 9293's two segment lifetimes.";
    Close = 7, "close", "TcpCloseTimeout", 10, "A RST was seen. 10 s for segments in flight.";
    Udp = 8, "udp", "UdpTimeout", 30, "UDP in one direction, or one request and its reply.";
    UdpStream = 9, "udp-stream", "UdpStreamTimeout", 180, "UDP after a reply and another packet from the initiator, 2 s after the first or later.";
    Icmp = 10, "icmp", "IcmpTimeout", 30, "ICMP or ICMPv6 request and reply. 30 s: nf_conntrack's; EC2 documents none.";
    Other = 11, "other", "OtherTimeout", 600, "Any other IP protocol, tracked by its addresses. EC2's fixed 600 s.";
}
