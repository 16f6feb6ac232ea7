//! Two ends that talk.

use firewall_ebpf::interface::{Direction, State};
use firewall_ebpf::parse::Kind;

use super::seen::Seen;
use crate::decision::packet::flags::{ACK, FIN, SYN};

/// How far a RST may be ahead of what its receiver acknowledged.
const TRAIN: u32 = 0xffff;

/// What is known of two ends that talk. Pairs are by direction.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) seen: u64,
    pub(super) opener: Direction,
    /// The rules that allowed it; one of them gets the honour.
    pub(super) allowing: Vec<u32>,
    has_reply: bool,
    pub(super) is_proven: bool,
    /// It began before we looked.
    is_picked_up: bool,
    /// The acknowledgement numbers that only somebody who saw the last SYN can know.
    proof: (u32, u32),
    /// Behind the last byte that was sent.
    sent: [u32; 2],
    /// The last acknowledgement.
    acked: [u32; 2],
    finisher: Direction,
    /// Who spoke since the last RST.
    heard: [bool; 2],
}

/// What a segment is to its connection.
pub(super) enum Part {
    /// It belongs there.
    Sound,
    /// It is let through, and that is all.
    Stray,
    /// It begins the next connection.
    Successor,
}

impl Connection {
    /// Begins with a packet that the rules allow.
    pub(super) fn new(seen: &Seen, now: u64, allowing: Vec<u32>) -> Self {
        let state = match seen.kind {
            Kind::Tcp if seen.is_tcp(SYN) => State::SynSent,
            Kind::Tcp if seen.flags & FIN != 0 => State::FinWait,
            Kind::Tcp => State::Established,
            Kind::Udp => State::Udp,
            Kind::Request => State::Icmp,
            _ => State::Other,
        };
        let mut connection = Self {
            state,
            seen: now,
            opener: seen.direction,
            allowing,
            has_reply: false,
            is_proven: false,
            is_picked_up: seen.kind == Kind::Tcp && state != State::SynSent,
            proof: seen.proof(),
            sent: [0; 2],
            acked: [0; 2],
            finisher: seen.direction,
            heard: [false; 2],
        };
        connection.note(seen);
        connection
    }

    /// A later packet.
    pub(super) fn hear(&mut self, seen: &Seen) -> Part {
        if seen.kind != Kind::Tcp {
            self.converse(seen.direction);
            return Part::Sound;
        }
        let before = self.state;
        let part = self.hear_tcp(seen);
        if before == State::SynSent && seen.is_plain() {
            self.acked[seen.direction as usize] = seen.ack;
        } else if matches!(part, Part::Sound) && !seen.is_rst() {
            self.note(seen);
        }
        part
    }

    /// Remembers a segment's numbers.
    fn note(&mut self, seen: &Seen) {
        self.sent[seen.direction as usize] = seen.end();
        self.acked[seen.direction as usize] = seen.ack;
    }

    /// Question, answer, question: then both exist.
    fn converse(&mut self, from: Direction) {
        if from != self.opener {
            self.has_reply = true;
        } else if self.has_reply {
            self.is_proven = true;
            if self.state == State::Udp {
                self.state = State::UdpStream;
            }
        }
    }

    fn hear_tcp(&mut self, seen: &Seen) -> Part {
        let is_opener = seen.direction == self.opener;
        if seen.is_rst() {
            return self.reset(seen);
        }
        match self.state {
            State::SynSent => self.hear_syn_sent(seen, is_opener),
            State::SynRecv => self.hear_syn_recv(seen, is_opener),
            State::TimeWait | State::Close if seen.is_tcp(SYN) => Part::Successor,
            State::TimeWait => Part::Sound,
            State::Close => {
                // Both ends go on as if there had been no RST: then there was none.
                self.heard[seen.direction as usize] = true;
                if self.heard != [true; 2] {
                    return Part::Stray;
                }
                self.state = State::Established;
                Part::Sound
            }
            _ if seen.flags & SYN != 0 => Part::Stray,
            _ => {
                self.hear_established(seen);
                Part::Sound
            }
        }
    }

    /// A RST counts if it refuses the SYN, or has the number that its receiver expects.
    fn reset(&mut self, seen: &Seen) -> Part {
        let (from, to) = (seen.direction, seen.direction.opposite());
        let is_good = if self.state == State::SynSent {
            from != self.opener && self.is_proof(seen)
        } else {
            let expected = self.acked[to as usize];
            let ahead = seen.seq.wrapping_sub(expected);
            let follows = seen.seq == self.sent[from as usize];
            ahead == 0 || (follows && (ahead <= TRAIN || expected == 0))
        };
        if !is_good {
            return Part::Stray;
        }
        self.state = State::Close;
        self.heard = [false; 2];
        Part::Sound
    }

    fn hear_syn_sent(&mut self, seen: &Seen, is_opener: bool) -> Part {
        if seen.is_tcp(SYN) {
            self.proof = seen.proof();
            if !is_opener {
                self.state = State::SynRecv;
            }
            Part::Sound
        } else if seen.is_tcp(SYN | ACK) && !is_opener && self.is_proof(seen) {
            self.has_reply = true;
            self.proof = seen.proof();
            self.state = State::SynRecv;
            Part::Sound
        } else if seen.flags & SYN == 0 && is_opener {
            Part::Sound
        } else {
            Part::Stray
        }
    }

    fn hear_syn_recv(&mut self, seen: &Seen, is_opener: bool) -> Part {
        if seen.is_tcp(SYN) {
            return Part::Sound;
        }
        if is_opener {
            if !self.is_proof(seen) {
                return Part::Stray;
            }
            self.is_proven = true;
            self.state = State::Established;
            if seen.flags & FIN != 0 {
                self.state = State::FinWait;
                self.finisher = seen.direction;
            }
        } else if seen.is_tcp(SYN | ACK) {
            self.has_reply = true;
            // One that is repeated takes back nothing of the data that was sent behind it.
            let proof = seen.proof();
            if proof.0 != self.proof.0 {
                self.proof = proof;
            }
        } else {
            // Data behind the SYN-ACK: the proof may acknowledge it too.
            let end = seen.seq.wrapping_add(seen.payload);
            let (low, high) = self.proof;
            if is_between(end, high, low.wrapping_add(0xffff)) {
                self.proof.1 = end;
            }
        }
        Part::Sound
    }

    fn hear_established(&mut self, seen: &Seen) {
        let is_finisher = seen.direction == self.finisher;
        let is_fin = seen.flags & FIN != 0;
        match self.state {
            State::Established if is_fin => {
                self.finisher = seen.direction;
                self.state = State::FinWait;
            }
            State::Established if self.is_picked_up => self.converse(seen.direction),
            State::FinWait | State::CloseWait if is_fin && !is_finisher => {
                self.state = State::LastAck;
            }
            State::FinWait if !is_fin && !is_finisher => self.state = State::CloseWait,
            State::LastAck if !is_fin && is_finisher => self.state = State::TimeWait,
            _ => {}
        }
    }

    fn is_proof(&self, seen: &Seen) -> bool {
        seen.flags & ACK != 0 && is_between(seen.ack, self.proof.0, self.proof.1)
    }
}

/// In sequence space, which is a circle.
fn is_between(number: u32, low: u32, high: u32) -> bool {
    number.wrapping_sub(low) <= high.wrapping_sub(low)
}
