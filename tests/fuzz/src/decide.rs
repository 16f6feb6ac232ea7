//! Sequences of packets, pauses and changes of rules against the decision.

mod check;

use arbitrary::{Result, Unstructured};
use firewall_ebpf::decide::{Decision, decide};
use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::flow::Tier;
use firewall_ebpf::host::{HostPacket, HostTables};
use firewall_ebpf::interface::{Direction, State, TcpChecks};
use firewall_ebpf::reason::Reason;

use self::check::Checked;
use crate::packet::flags::{ACK, FIN, PSH, RST, SYN};
use crate::packet::{Body, HOSTS, Packet, Tcp};
use crate::rules::{self, Rule};

/// Steps of one input.
const MOST: u64 = 32;

/// Plays the sequence that the bytes stand for, and returns how many packets were decided.
///
/// # Panics
/// If an invariant does not hold.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let mut bytes = Unstructured::new(input);
    let mut packets = 0;
    // Bytes that have run out end the sequence.
    let _ = play(&mut bytes, &mut packets);
    packets
}

fn play(bytes: &mut Unstructured<'_>, packets: &mut u64) -> Result<()> {
    let settings: u8 = bytes.arbitrary()?;
    let rules = rules::any(bytes)?;
    let mut world = World::new(settings, rules);
    let mut steps = 0;
    while !bytes.is_empty() && steps < MOST {
        steps += 1;
        world.step(bytes)?;
        *packets = world.decided;
    }
    world.end();
    Ok(())
}

/// An interface with its rules, and what was last sent past it.
struct World {
    tables: HostTables,
    /// The same interface, whose frames are never in the linear head: what the steady state's own
    /// path does must come out the same without it.
    apart: HostTables,
    rules: Vec<Rule>,
    checked: Checked,
    last: Option<(Packet, Reason)>,
    decided: u64,
}

impl World {
    fn new(settings: u8, rules: Vec<Rule>) -> Self {
        let tables = || {
            let mut tables = HostTables::new(1, rules::tables(&rules));
            tables.tcp_checks = TcpChecks::ALL[usize::from(settings & 1)];
            tables.no_pick_up = settings & 6 == 6;
            tables.non_ip = NonIp::ALL[usize::from(settings >> 3) % 3];
            if settings & 0xe0 == 0xe0 {
                tables.put(None);
            }
            tables
        };
        let (tables, apart) = (tables(), tables());
        Self { tables, apart, rules, checked: Checked::default(), last: None, decided: 0 }
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        match bytes.arbitrary::<u8>()? % 32 {
            0..12 => {
                let packet = any(bytes)?;
                self.send(&packet);
            }
            12..17 => self.answer(bytes)?,
            17..20 => self.go_on(bytes)?,
            20..23 => self.connect(bytes)?,
            23..25 => self.complain(bytes)?,
            25 => self.follow_up(bytes)?,
            26..29 => self.wait(bytes)?,
            29 => {
                self.rules = rules::any(bytes)?;
                self.change(|tables, rules| tables.put(Some(rules::tables(rules).into())));
            }
            30 => {
                let full = [None, Some(Tier::New), Some(Tier::Proven)]
                    [usize::from(bytes.arbitrary::<u8>()?) % 3];
                self.change(|tables, _| tables.full.set(full));
            }
            _ => self.raw(bytes)?,
        }
        Ok(())
    }

    fn change(&mut self, how: impl Fn(&mut HostTables, &[Rule])) {
        how(&mut self.tables, &self.rules);
        how(&mut self.apart, &self.rules);
        // What was just promised may not hold any more.
        self.last = None;
    }

    /// Lets a packet past and remembers it.
    fn send(&mut self, packet: &Packet) -> Reason {
        let reason = self.judge(&packet.frame(), packet.direction).reason;
        self.last = Some((packet.clone(), reason));
        reason
    }

    fn judge(&mut self, frame: &[u8], direction: Direction) -> Decision {
        let packet = HostPacket::ethernet(frame);
        let decision = decide(&packet, &self.tables, direction);
        let apart = HostPacket { linear: 0, ..packet };
        let other = decide(&apart, &self.apart, direction);
        assert_eq!(decision, other, "with and without a linear head: {direction:?} {frame:02x?}");
        self.decided += 1;
        self.checked.packet(&packet, &self.tables, &self.rules, direction, decision);
        decision
    }

    /// The other end answers the last packet, which it may if that passed as part of a flow.
    fn answer(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((packet, reason)) = self.last.take() else { return Ok(()) };
        let is_strict = self.tables.tcp_checks == TcpChecks::Strict;
        let is_rest = packet.fragment.is_some_and(|(offset, _)| offset > 0);
        let body = match packet.body.clone() {
            Body::Tcp(tcp) => Body::Tcp(reply(&packet, tcp, bytes.arbitrary()?)),
            Body::Icmp { kind, code, id } => Body::Icmp {
                kind: [(8, 0), (13, 14), (128, 129)]
                    .into_iter()
                    .find_map(|(ask, tell)| (ask == kind).then_some(tell))
                    .unwrap_or(kind),
                code,
                id,
            },
            body => body,
        };
        let answer = packet.answer(body);
        let answered = self.send(&answer);
        let is_request = match packet.body {
            Body::Tcp(_) | Body::Udp | Body::Raw(_) => true,
            Body::Icmp { kind, .. } if packet.is_v4 => matches!(kind, 8 | 13),
            Body::Icmp { kind, .. } => kind == 128,
            Body::Error { .. } => false,
        };
        let was_taken = match reason {
            Reason::NewFlow => true,
            // It may have closed the flow, or been no request itself.
            Reason::Established => !matches!(packet.body, Body::Icmp { .. }),
            _ => false,
        };
        if !is_request || !was_taken || is_rest {
            return Ok(());
        }
        let Body::Tcp(tcp) = answer.body else {
            assert_eq!(answered, Reason::Established, "answer to a flow's packet: {answer:?}");
            return Ok(());
        };
        let good = match answered {
            Reason::Established => true,
            Reason::TcpFlags => matches!(tcp.flags, 0 | FIN | NONSENSE),
            // A SYN asks the rules once a flow is over.
            Reason::NewFlow
            | Reason::NoRule
            | Reason::NoPolicy
            | Reason::FlowTableFull
            | Reason::Untracked => tcp.flags & (SYN | ACK) == SYN,
            Reason::TcpWindow | Reason::TcpReset => is_strict,
            _ => false,
        };
        assert!(good, "{}: answer to a flow's packet: {answer:?}", answered.name());
        Ok(())
    }

    /// The sender of the last packet sends another.
    fn go_on(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((mut packet, _)) = self.last.take() else { return Ok(()) };
        let flags = FLAGS[usize::from(bytes.arbitrary::<u8>()?) % FLAGS.len()];
        if let Body::Tcp(tcp) = &mut packet.body {
            tcp.seq = end(tcp, packet.data);
            tcp.flags = flags;
        }
        packet.data = u16::from(bytes.arbitrary::<u8>()? & 0x3f);
        packet.fragment = None;
        self.send(&packet);
        Ok(())
    }

    /// A whole handshake with right numbers: if it may begin, it ends in the proven tier.
    fn connect(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let start: u32 = bytes.arbitrary()?;
        let mut syn = any(bytes)?;
        let numbers = Tcp {
            flags: SYN,
            seq: start,
            ack: 0,
            window: bytes.arbitrary()?,
            scale: Some(bytes.arbitrary::<u8>()? & 0xf),
        };
        (syn.fragment, syn.data) = (None, 0);
        syn.body = Body::Tcp(numbers);
        if self.send(&syn) != Reason::NewFlow {
            return Ok(());
        }
        let answer = Tcp { flags: SYN | ACK, seq: !start, ack: start.wrapping_add(1), ..numbers };
        let answer = syn.answer(Body::Tcp(answer));
        assert_eq!(self.send(&answer), Reason::Established, "SYN-ACK: {answer:?}");
        let (seq, ack) = (start.wrapping_add(1), (!start).wrapping_add(1));
        let proof = Tcp { flags: ACK, seq, ack, ..numbers };
        let proof = Packet { body: Body::Tcp(proof), ..syn };
        assert_eq!(self.send(&proof), Reason::Established, "handshake's last: {proof:?}");
        if self.tables.full.get() != Some(Tier::Proven) {
            self.checked.assert_last_is_proven();
        }
        Ok(())
    }

    /// Somebody sends an ICMP error about the last packet.
    fn complain(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((packet, _)) = self.last.clone() else { return Ok(()) };
        let [kind, length, host]: [u8; 3] = bytes.arbitrary()?;
        let mut quote = packet.frame().split_off(if packet.is_tagged { 18 } else { 14 });
        quote.truncate(usize::from(length));
        let kinds = if packet.is_v4 { [3, 11, 12, 5] } else { [1, 2, 3, 4] };
        let mut error = packet.answer(Body::Error { kind: kinds[usize::from(kind & 3)], quote });
        if host & 0xc0 == 0xc0 {
            error.host = host % HOSTS;
        }
        self.judge(&error.frame(), error.direction);
        Ok(())
    }

    /// A further fragment of the last packet.
    fn follow_up(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((mut packet, _)) = self.last.clone() else { return Ok(()) };
        let [offset, more]: [u8; 2] = bytes.arbitrary()?;
        packet.fragment = Some((u16::from(offset & 0x1f), more & 1 == 1));
        self.judge(&packet.frame(), packet.direction);
        Ok(())
    }

    /// Time passes, mostly just up to or beyond what some state may be idle.
    fn wait(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let [state, by]: [u8; 2] = bytes.arbitrary()?;
        let timeout = State::ALL[usize::from(state) % State::ALL.len()].default_timeout();
        let timeout = u64::from(timeout) * HostTables::HZ;
        let jiffies = match by & 3 {
            0 => timeout,
            1 => timeout + 1,
            2 => u64::from(by),
            _ => timeout / 2,
        };
        self.change(|tables, _| tables.advance(jiffies));
        Ok(())
    }

    /// Any bytes behind a type that the parser knows, or one that it does not.
    fn raw(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let [size, kind, direction]: [u8; 3] = bytes.arbitrary()?;
        let size = usize::from(size).min(bytes.len());
        let mut frame = bytes.bytes(size)?.to_vec();
        if frame.len() > 14 {
            let kinds = [0x0800_u16, 0x86dd, 0x8100, 0x0806, 0x88cc, 0x1234];
            let kind = kinds[usize::from(kind) % kinds.len()];
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
        }
        self.judge(&frame, Direction::ALL[usize::from(direction & 1)]);
        Ok(())
    }

    fn end(&self) {
        assert_eq!(self.tables.flows_v4(), self.apart.flows_v4(), "IPv4 without a linear head");
        assert_eq!(self.tables.flows_v6(), self.apart.flows_v6(), "IPv6 without a linear head");
        assert_eq!(self.tables.rules, self.apart.rules, "rules without a linear head");
        assert_eq!(self.tables.events, self.apart.events, "events without a linear head");
    }
}

/// No stack sends it.
const NONSENSE: u8 = SYN | FIN;

const FLAGS: [u8; 16] = [
    SYN,
    SYN,
    SYN | ACK,
    ACK,
    ACK,
    ACK,
    PSH | ACK,
    PSH | ACK,
    FIN | ACK,
    FIN | ACK,
    RST,
    RST | ACK,
    SYN | 0xc0,
    FIN,
    NONSENSE,
    0,
];

/// Any packet, out of small pools, so that packets meet each other's flows.
fn any(bytes: &mut Unstructured<'_>) -> Result<Packet> {
    let [ends, ports, body, numbers, more, data]: [u8; 6] = bytes.arbitrary()?;
    let is_v4 = ends & 1 == 0;
    let ports = (
        [443, 443, 53, 68, 546, 40_000, 40_001, 22][usize::from(ports & 7)],
        [40_000, 40_000, 40_001, 443, 67, 547, 53, 5432][usize::from(ports >> 3 & 7)],
    );
    let number =
        |at: u8| [0, 1, 0xffff_fff0, 0xffff_fff1, 5000, 5001, 5064, 1 << 31][usize::from(at & 7)];
    let body = match body >> 4 {
        0..8 => Body::Tcp(Tcp {
            flags: FLAGS[usize::from(body & 15)],
            seq: number(numbers),
            ack: number(numbers >> 3),
            window: [0xffff, 64, 1, 0][usize::from(numbers >> 6)],
            scale: (more & 8 != 0).then_some(7),
        }),
        8..11 => Body::Udp,
        11..14 => Body::Icmp {
            kind: if is_v4 {
                [8, 0, 13, 14, 3, 5, 8, 8]
            } else {
                [128, 129, 135, 133, 1, 137, 128, 128]
            }[usize::from(body & 7)],
            code: numbers & 1,
            id: u16::from(numbers >> 1 & 3),
        },
        _ => Body::Raw([47, 132, 253, 41][usize::from(body & 3)]),
    };
    Ok(Packet {
        is_v4,
        direction: Direction::ALL[usize::from(ends >> 1 & 1)],
        host: (ends >> 2) % HOSTS,
        inside_port: ports.0,
        outside_port: ports.1,
        body,
        data: u16::from(data & 0x3f),
        fragment: (more & 0xe0 == 0xe0).then_some((0, true)),
        id: more & 1,
        hop_limit: if more & 2 == 0 { 64 } else { 255 },
        options: u8::from(more & 0x14 == 0x14),
        is_tagged: data & 0xc0 == 0xc0,
    })
}

/// The sequence number behind a segment.
fn end(tcp: &Tcp, data: u16) -> u32 {
    let length = u32::from(data) + u32::from(tcp.flags & (SYN | FIN) != 0);
    tcp.seq.wrapping_add(length)
}

/// An answer with the numbers that are due.
fn reply(packet: &Packet, tcp: Tcp, how: u8) -> Tcp {
    let due = if tcp.flags & (SYN | ACK) == SYN { SYN | ACK } else { ACK };
    let flags = if how & 0x80 == 0 { due } else { FLAGS[usize::from(how & 15)] };
    Tcp { flags, seq: tcp.ack, ack: end(&tcp, packet.data), ..tcp }
}
