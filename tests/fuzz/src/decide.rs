//! Fuzzes the verdict logic with sequences of packets, pauses and policy changes.

mod check;

use arbitrary::{Result, Unstructured};
use firewall_ebpf::abi::flow::Table;
use firewall_ebpf::abi::interface::NonIp;
use firewall_ebpf::abi::interface::{Direction, TcpChecks};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::backend::host::{HostPacket, HostTables};
use firewall_ebpf::verdict::decide::{Decision, decide};

use self::check::Invariants;
use crate::packet::flags::{ACK, FIN, PSH, RST, SYN};
use crate::packet::{Body, HOSTS, Packet, Tcp};
use crate::rules::{self, Rule};

/// The maximal number of steps of one input.
const MAX_STEPS: u64 = 32;

/// Runs the sequence that the bytes encode; returns how many packets were decided.
///
/// # Panics
/// If an invariant is violated.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let mut bytes = Unstructured::new(input);
    let mut packets = 0;
    // Exhausted bytes end the sequence.
    let _ = run_sequence(&mut bytes, &mut packets);
    packets
}

fn run_sequence(bytes: &mut Unstructured<'_>, packets: &mut u64) -> Result<()> {
    let settings: u8 = bytes.arbitrary()?;
    let rules = rules::any(bytes)?;
    let mut fuzzer = Fuzzer::new(settings, rules);
    let mut steps = 0;
    while !bytes.is_empty() && steps < MAX_STEPS {
        steps += 1;
        fuzzer.step(bytes)?;
        *packets = fuzzer.decided;
    }
    fuzzer.compare_tables();
    Ok(())
}

/// An interface with its rules, and the last packet.
struct Fuzzer {
    tables: HostTables,
    /// The same interface for frames without linear data: the established fast path and the general
    /// path must have the same results.
    nonlinear: HostTables,
    rules: Vec<Rule>,
    invariants: Invariants,
    last: Option<(Packet, Reason)>,
    decided: u64,
}

impl Fuzzer {
    fn new(settings: u8, rules: Vec<Rule>) -> Self {
        let tables = || {
            let mut tables = HostTables::new(1, rules::tables(&rules));
            tables.tcp_checks = TcpChecks::ALL[usize::from(settings & 1)];
            tables.no_tcp_loose = settings & 6 == 6;
            tables.non_ip = NonIp::ALL[usize::from(settings >> 3) % 3];
            if settings & 0xe0 == 0xe0 {
                tables.set_policy(None);
            }
            tables
        };
        let (tables, nonlinear) = (tables(), tables());
        Self { tables, nonlinear, rules, invariants: Invariants::default(), last: None, decided: 0 }
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        match bytes.arbitrary::<u8>()? % 32 {
            0..12 => {
                let packet = any(bytes)?;
                self.send(&packet);
            }
            12..17 => self.send_reply(bytes)?,
            17..20 => self.send_next(bytes)?,
            20..23 => self.connect(bytes)?,
            23..25 => self.send_icmp_error(bytes)?,
            25 => self.send_later_fragment(bytes)?,
            26..29 => self.wait(bytes)?,
            29 => {
                self.rules = rules::any(bytes)?;
                self.change(|tables, rules| tables.set_policy(Some(rules::tables(rules).into())));
            }
            30 => {
                let full = [None, Some(Table::New), Some(Table::Tcp)]
                    [usize::from(bytes.arbitrary::<u8>()?) % 3];
                self.change(|tables, _| tables.full.set(full));
            }
            _ => self.send_raw(bytes)?,
        }
        Ok(())
    }

    fn change(&mut self, how: impl Fn(&mut HostTables, &[Rule])) {
        how(&mut self.tables, &self.rules);
        how(&mut self.nonlinear, &self.rules);
        // The expectations of a reply to the last packet may not hold any more.
        self.last = None;
    }

    /// Decides a packet and stores it as the last one.
    fn send(&mut self, packet: &Packet) -> Reason {
        let reason = self.decide(&packet.frame(), packet.direction).reason;
        self.last = Some((packet.clone(), reason));
        reason
    }

    fn decide(&mut self, frame: &[u8], direction: Direction) -> Decision {
        let packet = HostPacket::ethernet(frame);
        let decision = decide(&packet, &self.tables, direction);
        let nonlinear = HostPacket { linear: 0, ..packet };
        let other = decide(&nonlinear, &self.nonlinear, direction);
        assert_eq!(decision, other, "with and without linear data: {direction:?} {frame:02x?}");
        self.decided += 1;
        self.invariants.packet(&packet, &self.tables, &self.rules, direction, decision);
        decision
    }

    /// Replies to the last packet; the reply must pass if that one belongs to a flow.
    fn send_reply(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((packet, reason)) = self.last.take() else { return Ok(()) };
        let is_strict = self.tables.tcp_checks == TcpChecks::Strict;
        let is_later_fragment = packet.fragment.is_some_and(|(offset, _)| offset > 0);
        let body = match packet.body.clone() {
            Body::Tcp(tcp) => Body::Tcp(reply_segment(&packet, tcp, bytes.arbitrary()?)),
            Body::Icmp { kind, code, id } => Body::Icmp {
                kind: [(8, 0), (13, 14), (128, 129)]
                    .into_iter()
                    .find_map(|(request, reply)| (request == kind).then_some(reply))
                    .unwrap_or(kind),
                code,
                id,
            },
            body => body,
        };
        let reply = packet.reply(body);
        let reply_reason = self.send(&reply);
        let is_request = match packet.body {
            Body::Tcp(_) | Body::Udp | Body::Raw(_) => true,
            Body::Icmp { kind, .. } if packet.is_v4 => matches!(kind, 8 | 13),
            Body::Icmp { kind, .. } => kind == 128,
            Body::Error { .. } => false,
        };
        let has_flow = match reason {
            Reason::NewFlow => true,
            // An established ICMP packet may be no request.
            Reason::Established => !matches!(packet.body, Body::Icmp { .. }),
            _ => false,
        };
        if !is_request || !has_flow || is_later_fragment {
            return Ok(());
        }
        let Body::Tcp(tcp) = reply.body else {
            assert_eq!(reply_reason, Reason::Established, "reply to a flow's packet: {reply:?}");
            return Ok(());
        };
        let is_valid = match reply_reason {
            Reason::Established => true,
            Reason::TcpFlags => matches!(tcp.flags, 0 | FIN | INVALID_FLAGS),
            // A SYN is evaluated by the rules after the flow has ended.
            Reason::NewFlow
            | Reason::NoRule
            | Reason::NoPolicy
            | Reason::FlowTableFull
            | Reason::Untracked => tcp.flags & (SYN | ACK) == SYN,
            Reason::TcpWindow | Reason::TcpReset => is_strict,
            _ => false,
        };
        assert!(is_valid, "{}: reply to a flow's packet: {reply:?}", reply_reason.name());
        Ok(())
    }

    /// Sends another packet of the last one's sender.
    fn send_next(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((mut packet, _)) = self.last.take() else { return Ok(()) };
        let flags = FLAGS[usize::from(bytes.arbitrary::<u8>()?) % FLAGS.len()];
        if let Body::Tcp(tcp) = &mut packet.body {
            tcp.seq = next_seq(tcp, packet.data);
            tcp.flags = flags;
        }
        packet.data = u16::from(bytes.arbitrary::<u8>()? & 0x3f);
        packet.fragment = None;
        self.send(&packet);
        Ok(())
    }

    /// A complete handshake with valid numbers: if its SYN passes, the flow ends in the proven
    /// tier.
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
        let syn_ack = Tcp { flags: SYN | ACK, seq: !start, ack: start.wrapping_add(1), ..numbers };
        let syn_ack = syn.reply(Body::Tcp(syn_ack));
        assert_eq!(self.send(&syn_ack), Reason::Established, "SYN-ACK: {syn_ack:?}");
        let (seq, ack) = (start.wrapping_add(1), (!start).wrapping_add(1));
        let last_ack = Tcp { flags: ACK, seq, ack, ..numbers };
        let last_ack = Packet { body: Body::Tcp(last_ack), ..syn };
        assert_eq!(self.send(&last_ack), Reason::Established, "last ACK: {last_ack:?}");
        if self.tables.full.get() != Some(Table::Tcp) {
            self.invariants.assert_last_is_proven();
        }
        Ok(())
    }

    /// Sends an ICMP error about the last packet.
    fn send_icmp_error(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((packet, _)) = self.last.clone() else { return Ok(()) };
        let [kind, length, host]: [u8; 3] = bytes.arbitrary()?;
        let mut embedded = packet.frame().split_off(if packet.is_tagged { 18 } else { 14 });
        embedded.truncate(usize::from(length));
        let kinds = if packet.is_v4 { [3, 11, 12, 5] } else { [1, 2, 3, 4] };
        let mut error = packet.reply(Body::Error { kind: kinds[usize::from(kind & 3)], embedded });
        if host & 0xc0 == 0xc0 {
            error.host = host % HOSTS;
        }
        self.decide(&error.frame(), error.direction);
        Ok(())
    }

    /// Sends a later fragment of the last packet.
    fn send_later_fragment(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some((mut packet, _)) = self.last.clone() else { return Ok(()) };
        let [offset, more]: [u8; 2] = bytes.arbitrary()?;
        packet.fragment = Some((u16::from(offset & 0x1f), more & 1 == 1));
        self.decide(&packet.frame(), packet.direction);
        Ok(())
    }

    /// Advances the clock, mostly exactly to or just beyond the idle timeout of a state.
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

    /// Sends any bytes after an EtherType, known or unknown to the parser.
    fn send_raw(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let [size, kind, direction]: [u8; 3] = bytes.arbitrary()?;
        let size = usize::from(size).min(bytes.len());
        let mut frame = bytes.bytes(size)?.to_vec();
        if frame.len() > 14 {
            let kinds = [0x0800_u16, 0x86dd, 0x8100, 0x0806, 0x88cc, 0x1234];
            let kind = kinds[usize::from(kind) % kinds.len()];
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
        }
        self.decide(&frame, Direction::ALL[usize::from(direction & 1)]);
        Ok(())
    }

    fn compare_tables(&self) {
        assert_eq!(self.tables.flows_v4(), self.nonlinear.flows_v4(), "IPv4 without linear data");
        assert_eq!(self.tables.flows_v6(), self.nonlinear.flows_v6(), "IPv6 without linear data");
        assert_eq!(self.tables.rules, self.nonlinear.rules, "rules without linear data");
        assert_eq!(self.tables.events, self.nonlinear.events, "events without linear data");
    }
}

/// Flags that no TCP stack sends.
const INVALID_FLAGS: u8 = SYN | FIN;

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
    INVALID_FLAGS,
    0,
];

/// A random packet from small pools, so that packets often belong to the same flows.
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

/// The sequence number after a segment.
fn next_seq(tcp: &Tcp, data: u16) -> u32 {
    let length = u32::from(data) + u32::from(tcp.flags & (SYN | FIN) != 0);
    tcp.seq.wrapping_add(length)
}

/// A TCP reply with the expected numbers.
fn reply_segment(packet: &Packet, tcp: Tcp, how: u8) -> Tcp {
    let expected = if tcp.flags & (SYN | ACK) == SYN { SYN | ACK } else { ACK };
    let flags = if how & 0x80 == 0 { expected } else { FLAGS[usize::from(how & 15)] };
    Tcp { flags, seq: tcp.ack, ack: next_seq(&tcp, packet.data), ..tcp }
}
