//! A connection of the model.

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::wire::headers::Kind;

use super::numbers::{Numbers, Range};
use super::packet::ModelPacket;
use super::window::{Position, Windows};
use crate::decision::packet::flags::{ACK, FIN, SYN};

/// Seconds after which a UDP connection can be proven.
const UDP_STREAM_AGE: u64 = 2;

/// The most data of an ignored SYN that is remembered.
const MAX_IGNORED_DATA: u32 = 16_383;

/// The state of a connection. Arrays are indexed by direction.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    /// The time of the last packet that refreshed it, in seconds.
    pub(super) last_seen: u64,
    created: u64,
    pub(super) initiator: Direction,
    /// The rules that allowed it; the flow records one of them.
    pub(super) allowing: Vec<u32>,
    has_reply: bool,
    pub(super) is_proven: bool,
    /// The acknowledgements of the first SYN, later of the SYN-ACK: only their receivers know them.
    answer: Range,
    /// The acknowledgements of the latest SYN.
    latest: Range,
    /// The numbers of both ends.
    numbers: Numbers,
    is_strict: bool,
    /// Strict: the windows of both ends.
    windows: Option<Windows>,
    /// The sender of the first FIN.
    first_fin: Direction,
    /// The last SYN that was ignored: its sender, its acknowledgements, and its window.
    ignored_syn: Option<(Direction, Range, Windows)>,
}

/// The effect of a packet on its connection.
pub(super) enum Effect {
    /// It passes and refreshes the idle timeout.
    Refresh,
    /// It passes and does not refresh the idle timeout.
    Ignore,
    /// Strict drops it; otherwise as [`Self::Ignore`].
    Invalid,
    /// Strict drops it as outside of the window.
    Beyond,
    /// It begins the next connection with the same key.
    Reopen,
}

impl Connection {
    /// A connection whose first packet the rules allow.
    pub(super) fn new(packet: &ModelPacket, now: u64, allowing: Vec<u32>, is_strict: bool) -> Self {
        let state = match packet.kind {
            Kind::Tcp if packet.is_tcp(SYN) => State::SynSent,
            Kind::Tcp => State::Established,
            Kind::Udp => State::Udp,
            Kind::Request => State::Icmp,
            _ => State::Other,
        };
        let range = packet.acknowledgements();
        Self {
            state,
            last_seen: now,
            created: now,
            initiator: packet.direction,
            allowing,
            has_reply: false,
            is_proven: false,
            answer: range,
            latest: range,
            numbers: Numbers::of_first(packet),
            is_strict,
            windows: (is_strict && state == State::SynSent).then(|| Windows::of_first(packet)),
            first_fin: Direction::Ingress,
            ignored_syn: None,
        }
    }

    /// Whether a SYN-ACK answers a SYN that was ignored, so that a new connection begins.
    pub(super) fn is_begun_anew_by(&self, packet: &ModelPacket) -> bool {
        let is_open =
            !matches!(self.state, State::SynSent | State::SynRecv | State::TimeWait | State::Close);
        is_open
            && packet.is_tcp(SYN | ACK)
            && self.ignored_syn.as_ref().is_some_and(|(from, answer, _)| {
                *from != packet.direction && answer.contains(packet.ack)
            })
    }

    /// Whether the connection has ended, so that a SYN replaces it.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::TimeWait | State::Close)
    }

    /// Begins that new connection, of which the rules allow the SYN.
    pub(super) fn begin_anew(&mut self, packet: &ModelPacket, allowing: Vec<u32>) {
        let (from, answer, windows) = self.ignored_syn.take().expect("a SYN");
        self.initiator = from;
        self.allowing = allowing;
        self.windows = self.is_strict.then_some(windows);
        self.numbers.forget_heard();
        self.numbers.forget_unconfirmed();
        self.accept(packet, answer.high);
    }

    /// Applies a later packet.
    pub(super) fn update(&mut self, packet: &ModelPacket, now: u64) -> Effect {
        if packet.kind == Kind::Tcp {
            return self.update_tcp(packet);
        }
        let is_old = now - self.created >= UDP_STREAM_AGE;
        if packet.direction != self.initiator {
            self.has_reply = true;
        } else if self.has_reply && is_old && self.state == State::Udp && !packet.may_be_dhcp() {
            self.is_proven = true;
            self.state = State::UdpStream;
        }
        Effect::Refresh
    }

    fn update_tcp(&mut self, packet: &ModelPacket) -> Effect {
        let is_initiator = packet.direction == self.initiator;
        if packet.is_rst() {
            return self.reset(packet);
        }
        match self.state {
            State::SynSent => self.update_syn_sent(packet, is_initiator),
            State::SynRecv => self.update_syn_recv(packet, is_initiator),
            _ if packet.is_tcp(SYN) => {
                if self.is_closed() {
                    return Effect::Reopen;
                }
                let Range { low, high } = packet.acknowledgements();
                let high = low.wrapping_add(high.wrapping_sub(low).min(MAX_IGNORED_DATA));
                let windows = Windows::of_ignored(packet);
                self.ignored_syn = Some((packet.direction, Range { low, high }, windows));
                Effect::Ignore
            }
            _ if packet.flags & SYN != 0 => Effect::Ignore,
            _ => self.update_open(packet),
        }
    }

    /// A RST is valid if it acknowledges the SYN, or has the number that its receiver expects.
    fn reset(&mut self, packet: &ModelPacket) -> Effect {
        let is_expected = self.numbers.is_expected(packet);
        match self.state {
            State::SynSent if packet.direction == self.initiator => return Effect::Ignore,
            State::SynSent if self.answered_syn(packet).is_none() => return Effect::Invalid,
            // The responder announced no window.
            State::SynSent => self.windows = None,
            _ if is_expected => {}
            State::SynRecv => return Effect::Invalid,
            State::Established if self.numbers.are_known => return Effect::Invalid,
            _ => return Effect::Ignore,
        }
        self.state = State::Close;
        self.numbers.forget_heard();
        Effect::Refresh
    }

    fn update_syn_sent(&mut self, packet: &ModelPacket, is_initiator: bool) -> Effect {
        let syn = packet.acknowledgements();
        if packet.is_tcp(SYN) && is_initiator {
            if syn.low == self.answer.low {
                self.answer.extend(syn.high);
            } else {
                self.latest = syn;
                if let Some(windows) = &mut self.windows {
                    windows.store_other(packet);
                }
            }
            Effect::Refresh
        } else if packet.is_tcp(SYN) {
            // A simultaneous open.
            self.numbers.open(packet, self.answer.low, self.answer.high);
            self.open_windows(packet);
            self.answer = syn;
            self.state = State::SynRecv;
            Effect::Refresh
        } else if packet.is_tcp(SYN | ACK) && !is_initiator {
            let Some(next) = self.answered_syn(packet) else { return Effect::Ignore };
            if !self.answer.contains(packet.ack)
                && let Some(windows) = &mut self.windows
            {
                windows.take_other(self.initiator);
            }
            self.accept(packet, next);
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
        let is_syn_ack = packet.is_tcp(SYN | ACK);
        if is_syn_ack && !is_initiator {
            let sent = self.numbers.next_seq[self.initiator as usize];
            if sent.wrapping_sub(packet.ack) > 0xffff {
                return Effect::Ignore;
            }
            if packet.acknowledgements().low != self.answer.low || !self.numbers.are_known {
                self.accept(packet, sent);
            }
            return Effect::Refresh;
        }
        let mut fits = self.numbers.fit(packet);
        if let Some(windows) = self.windows.as_ref().filter(|_| !is_syn_ack) {
            match windows.position(packet, &self.numbers) {
                Position::Beyond => return Effect::Beyond,
                Position::Before => return Effect::Ignore,
                Position::Inside => fits = true,
            }
        }
        if is_initiator {
            if !self.answer.contains(packet.ack) {
                return Effect::Invalid;
            }
            self.is_proven = true;
            self.numbers.are_known = true;
            self.state = State::Established;
            if packet.flags & FIN != 0 {
                self.state = State::FinWait;
                self.first_fin = packet.direction;
            }
        } else if fits {
            // Data after the SYN-ACK: the last ACK of the handshake may cover it too.
            let end = packet.seq.wrapping_add(packet.payload);
            let Range { low, high } = self.answer;
            if (Range { low: high, high: low.wrapping_add(0xffff) }).contains(end) {
                self.answer.high = end;
            }
        }
        if fits && !is_syn_ack {
            self.store(packet);
        }
        Effect::Refresh
    }

    /// After the handshake.
    fn update_open(&mut self, packet: &ModelPacket) -> Effect {
        let mut confirms_fin = false;
        match self.apply(packet, &mut confirms_fin) {
            // It has moved the connection, whatever else it is.
            Effect::Ignore | Effect::Invalid if confirms_fin => Effect::Refresh,
            effect => effect,
        }
    }

    fn apply(&mut self, packet: &ModelPacket, confirms_fin: &mut bool) -> Effect {
        let (from, is_fin) = (packet.direction, packet.flags & FIN != 0);
        let mut fits = true;
        if let Some(windows) = &self.windows {
            match windows.position(packet, &self.numbers) {
                Position::Beyond => return Effect::Beyond,
                Position::Before => return Effect::Ignore,
                Position::Inside => {}
            }
        } else {
            let is_open = !matches!(self.state, State::TimeWait | State::Close);
            let is_refused = is_fin && is_open && self.numbers.are_known;
            if self.is_strict && is_refused && !self.numbers.fit(packet) {
                return Effect::Invalid;
            }
            *confirms_fin = self.numbers.confirm(packet);
            if *confirms_fin {
                self.close(from.opposite());
            }
            fits = if self.numbers.are_known {
                self.numbers.fit_or_doubt(packet)
            } else {
                self.numbers.learn(packet, self.initiator);
                self.is_proven |= self.numbers.are_known;
                self.numbers.are_known
            };
        }
        match self.state {
            State::TimeWait => {}
            State::Close if !fits => return Effect::Ignore,
            State::Close => {
                // Both ends continue after the RST, so neither has accepted it.
                if !self.numbers.both_heard(from) {
                    return Effect::Ignore;
                }
                self.state = State::Established;
            }
            _ if is_fin && !fits && self.numbers.are_known => return Effect::Invalid,
            _ if is_fin && !fits => return Effect::Ignore,
            _ if is_fin => self.close(from),
            State::FinWait if fits && from != self.first_fin => self.state = State::CloseWait,
            State::LastAck if fits && from == self.first_fin => self.state = State::TimeWait,
            _ => {}
        }
        if fits {
            self.store(packet);
        }
        Effect::Refresh
    }

    /// A FIN of an end.
    fn close(&mut self, from: Direction) {
        match self.state {
            State::Established => {
                self.first_fin = from;
                self.state = State::FinWait;
            }
            State::FinWait | State::CloseWait if from != self.first_fin => {
                self.state = State::LastAck;
            }
            _ => {}
        }
    }

    /// The SYN-ACK to a SYN that `next` follows.
    fn accept(&mut self, packet: &ModelPacket, next: u32) {
        self.has_reply = true;
        self.numbers.open(packet, packet.ack, next);
        self.numbers.are_known = true;
        self.open_windows(packet);
        self.answer = packet.acknowledgements();
        self.state = State::SynRecv;
    }

    fn open_windows(&mut self, packet: &ModelPacket) {
        if let Some(windows) = &mut self.windows {
            windows.open(packet, &self.numbers);
        }
    }

    fn store(&mut self, packet: &ModelPacket) {
        self.numbers.store(packet);
        if let Some(windows) = &mut self.windows {
            windows.update(packet);
        }
    }

    /// The number after the SYN, first or latest, that a segment acknowledges.
    fn answered_syn(&self, packet: &ModelPacket) -> Option<u32> {
        let mut syns = [self.answer, self.latest].into_iter();
        syns.find(|syn| packet.flags & ACK != 0 && syn.contains(packet.ack)).map(|syn| syn.high)
    }
}
