//! A connection of the model.

use firewall_ebpf::interface::{Direction, State};
use firewall_ebpf::parse::Kind;

use super::packet::ModelPacket;
use crate::decision::packet::flags::{ACK, FIN, SYN};

/// How far the number of a RST may be ahead of what its receiver acknowledged.
const MAX_RST_AHEAD: u32 = 0xffff;

/// The state of a connection. Arrays are indexed by direction.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    /// The time of the last packet that refreshed it, in seconds.
    pub(super) last_seen: u64,
    pub(super) initiator: Direction,
    /// The rules that allowed it; the flow records one of them.
    pub(super) allowing: Vec<u32>,
    has_reply: bool,
    pub(super) is_proven: bool,
    /// It was picked up mid-stream.
    is_picked_up: bool,
    /// The lowest and highest acknowledgement of the last SYN: only its receiver knows them.
    syn_acks: (u32, u32),
    /// The sequence number after the last segment.
    next_seq: [u32; 2],
    /// The last acknowledgement.
    last_ack: [u32; 2],
    /// The sender of the first FIN.
    first_fin: Direction,
    /// Whether this end sent a segment after the last RST.
    sent_after_rst: [bool; 2],
}

/// The effect of a packet on its connection.
pub(super) enum Effect {
    /// It passes and refreshes the idle timeout.
    Refresh,
    /// It passes and does not refresh the idle timeout.
    Ignore,
    /// It begins the next connection with the same key.
    Reopen,
}

impl Connection {
    /// A connection whose first packet the rules allow.
    pub(super) fn new(packet: &ModelPacket, now: u64, allowing: Vec<u32>) -> Self {
        let state = match packet.kind {
            Kind::Tcp if packet.is_tcp(SYN) => State::SynSent,
            Kind::Tcp if packet.flags & FIN != 0 => State::FinWait,
            Kind::Tcp => State::Established,
            Kind::Udp => State::Udp,
            Kind::Request => State::Icmp,
            _ => State::Other,
        };
        let mut connection = Self {
            state,
            last_seen: now,
            initiator: packet.direction,
            allowing,
            has_reply: false,
            is_proven: false,
            is_picked_up: packet.kind == Kind::Tcp && state != State::SynSent,
            syn_acks: packet.acknowledgements(),
            next_seq: [0; 2],
            last_ack: [0; 2],
            first_fin: packet.direction,
            sent_after_rst: [false; 2],
        };
        connection.record_numbers(packet);
        connection
    }

    /// Applies a later packet.
    pub(super) fn update(&mut self, packet: &ModelPacket) -> Effect {
        if packet.kind != Kind::Tcp {
            self.udp_transition(packet.direction);
            return Effect::Refresh;
        }
        let before = self.state;
        let effect = self.update_tcp(packet);
        if before == State::SynSent && packet.is_plain_ack() {
            self.last_ack[packet.direction as usize] = packet.ack;
        } else if matches!(effect, Effect::Refresh) && !packet.is_rst() {
            self.record_numbers(packet);
        }
        effect
    }

    /// Stores a segment's numbers.
    fn record_numbers(&mut self, packet: &ModelPacket) {
        self.next_seq[packet.direction as usize] = packet.next_seq();
        self.last_ack[packet.direction as usize] = packet.ack;
    }

    /// A packet, a reply and another packet prove that both ends exist.
    fn udp_transition(&mut self, from: Direction) {
        if from != self.initiator {
            self.has_reply = true;
        } else if self.has_reply {
            self.is_proven = true;
            if self.state == State::Udp {
                self.state = State::UdpStream;
            }
        }
    }

    fn update_tcp(&mut self, packet: &ModelPacket) -> Effect {
        let is_initiator = packet.direction == self.initiator;
        if packet.is_rst() {
            return self.reset(packet);
        }
        match self.state {
            State::SynSent => self.update_syn_sent(packet, is_initiator),
            State::SynRecv => self.update_syn_recv(packet, is_initiator),
            State::TimeWait | State::Close if packet.is_tcp(SYN) => Effect::Reopen,
            State::TimeWait => Effect::Refresh,
            State::Close => {
                // Both ends continue after the RST, so neither has accepted it.
                self.sent_after_rst[packet.direction as usize] = true;
                if self.sent_after_rst != [true; 2] {
                    return Effect::Ignore;
                }
                self.state = State::Established;
                Effect::Refresh
            }
            _ if packet.flags & SYN != 0 => Effect::Ignore,
            _ => {
                self.update_established(packet);
                Effect::Refresh
            }
        }
    }

    /// A RST is valid if it acknowledges the SYN, or has the number that its receiver expects.
    fn reset(&mut self, packet: &ModelPacket) -> Effect {
        let (from, to) = (packet.direction, packet.direction.opposite());
        let is_valid = if self.state == State::SynSent {
            from != self.initiator && self.acknowledges_syn(packet)
        } else {
            let expected = self.last_ack[to as usize];
            let ahead = packet.seq.wrapping_sub(expected);
            let follows = packet.seq == self.next_seq[from as usize];
            ahead == 0 || (follows && (ahead <= MAX_RST_AHEAD || expected == 0))
        };
        if !is_valid {
            return Effect::Ignore;
        }
        self.state = State::Close;
        self.sent_after_rst = [false; 2];
        Effect::Refresh
    }

    fn update_syn_sent(&mut self, packet: &ModelPacket, is_initiator: bool) -> Effect {
        if packet.is_tcp(SYN) {
            self.syn_acks = packet.acknowledgements();
            if !is_initiator {
                self.state = State::SynRecv;
            }
            Effect::Refresh
        } else if packet.is_tcp(SYN | ACK) && !is_initiator && self.acknowledges_syn(packet) {
            self.has_reply = true;
            self.syn_acks = packet.acknowledgements();
            self.state = State::SynRecv;
            Effect::Refresh
        } else if packet.flags & SYN == 0 && is_initiator {
            Effect::Refresh
        } else {
            Effect::Ignore
        }
    }

    fn update_syn_recv(&mut self, packet: &ModelPacket, is_initiator: bool) -> Effect {
        if packet.is_tcp(SYN) {
            return Effect::Refresh;
        }
        if is_initiator {
            if !self.acknowledges_syn(packet) {
                return Effect::Ignore;
            }
            self.is_proven = true;
            self.state = State::Established;
            if packet.flags & FIN != 0 {
                self.state = State::FinWait;
                self.first_fin = packet.direction;
            }
        } else if packet.is_tcp(SYN | ACK) {
            self.has_reply = true;
            // A retransmission keeps the range that data after the SYN-ACK has extended.
            let syn_acks = packet.acknowledgements();
            if syn_acks.0 != self.syn_acks.0 {
                self.syn_acks = syn_acks;
            }
        } else {
            // Data after the SYN-ACK: the last ACK of the handshake may cover it too.
            let end = packet.seq.wrapping_add(packet.payload);
            let (low, high) = self.syn_acks;
            if is_between(end, high, low.wrapping_add(0xffff)) {
                self.syn_acks.1 = end;
            }
        }
        Effect::Refresh
    }

    fn update_established(&mut self, packet: &ModelPacket) {
        let is_first_fin = packet.direction == self.first_fin;
        let is_fin = packet.flags & FIN != 0;
        match self.state {
            State::Established if is_fin => {
                self.first_fin = packet.direction;
                self.state = State::FinWait;
            }
            State::Established if self.is_picked_up => self.udp_transition(packet.direction),
            State::FinWait | State::CloseWait if is_fin && !is_first_fin => {
                self.state = State::LastAck;
            }
            State::FinWait if !is_fin && !is_first_fin => self.state = State::CloseWait,
            State::LastAck if !is_fin && is_first_fin => self.state = State::TimeWait,
            _ => {}
        }
    }

    fn acknowledges_syn(&self, packet: &ModelPacket) -> bool {
        packet.flags & ACK != 0 && is_between(packet.ack, self.syn_acks.0, self.syn_acks.1)
    }
}

/// Comparison modulo 2^32 (RFC 9293, section 3.4).
fn is_between(number: u32, low: u32, high: u32) -> bool {
    number.wrapping_sub(low) <= high.wrapping_sub(low)
}
