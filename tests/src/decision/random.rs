//! Random packets, rules and times, from a seed.
//!
//! Pools are small on purpose: with few hosts, ports and numbers, random packets often belong to
//! the flows of others, so that most transitions of a flow occur.

use std::env;
use std::sync::LazyLock;

use firewall_ebpf::abi::interface::Direction;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::decision::case::Case;
use crate::decision::cases;
use crate::decision::deny::{Action, Block, Entry, permit_all};
use crate::decision::packet::flags::{ACK, FIN, PSH, RST, SYN};
use crate::decision::packet::{Body, DOT1AD, DOT1Q, Extension, Packet};
use crate::decision::rules::{ECHO, Peer, Rule, Traffic, allow, allow_reverse, default_rules};
use crate::decision::scenario::Outside::{Far, Near, Neighbour};
use crate::decision::scenario::Role::{Client, Server};
use crate::decision::scenario::{Family, Scenario};

/// The number of inputs of a property, which `PROPTEST_CASES` overrides, and their seed, which
/// `PROPTEST_RNG_SEED` overrides. Both are fixed, so that a failure is reproducible; no regression
/// files are written.
#[must_use]
pub fn config(cases: u32, seed: u64) -> Config {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let requested = number("PROPTEST_CASES").and_then(|count| u32::try_from(count).ok());
    Config {
        cases: requested.unwrap_or(cases),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(seed)),
        ..Config::default()
    }
}

/// One step of a random sequence.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame.
    Frame(Vec<u8>, Direction),
    /// Seconds pass.
    Wait(u32),
    /// This filter replaces the interface's, or none does.
    Filter(Option<Vec<Entry>>),
    /// These blocks of the host replace the present ones.
    Blocks(Vec<Block>),
}

/// A sequence of frames, most of them well-formed, and of pauses. Between random frames are the
/// packets of whole cases of the tables, some of them damaged.
pub fn sequence() -> impl Strategy<Value = Vec<Event>> {
    let seconds =
        select(vec![1, 2, 9, 11, 29, 31, 59, 61, 119, 121, 179, 181, 599, 601, 3600, 432_001]);
    let piece = prop_oneof![
        12 => (scenario(), packet(), damage())
            .prop_map(|(scenario, packet, damage)| vec![event(&scenario, &packet, &damage)]),
        2 => seconds.prop_map(|seconds| vec![Event::Wait(seconds)]),
        3 => case_packets(),
        1 => fragments(),
        1 => weighted(0.7, entries()).prop_map(|entries| vec![Event::Filter(entries)]),
        1 => blocks().prop_map(|blocks| vec![Event::Blocks(blocks)]),
        1 => garbage().prop_map(|frame| vec![frame]),
    ];
    vec(piece, 1..25).prop_map(|pieces| pieces.into_iter().flatten().collect())
}

/// Sequences from a seed, without end.
pub fn sequences(seed: u64) -> impl Iterator<Item = Vec<Event>> {
    let mut runner = TestRunner::new(config(1, seed));
    let any = sequence();
    std::iter::repeat_with(move || any.new_tree(&mut runner).expect("no filters").current())
}

/// Entries of a filter; most filters end with one that allows everything.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let action = select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Block]);
    let from = select(vec![Some(Client), Some(Server), None]);
    let entry = (from, action, traffic(), peer(), weighted(0.3, end())).prop_map(
        |(from, action, traffic, peer, ends)| Entry { from, action, traffic, peer, ends },
    );
    (vec(entry, 0..6), weighted(0.8, Just(permit_all())))
        .prop_map(|(entries, all)| entries.into_iter().chain(all.into_iter().flatten()).collect())
}

/// Blocks of the host; often none.
fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let peer =
        select(vec![Peer::Near, Peer::Wide, Peer::Far, Peer::Host(Near), Peer::Host(Neighbour)]);
    let block = (peer, weighted(0.4, end())).prop_map(|(peer, ends)| Block { peer, ends });
    prop_oneof![1 => Just(Vec::new()), 1 => vec(block, 1..4)]
}

/// Seconds until something ends.
fn end() -> impl Strategy<Value = u32> {
    select(vec![0, 1, 10, 30, 60, 600])
}

/// A fragmented datagram, of which some fragments may overlap the first.
fn fragments() -> impl Strategy<Value = Vec<Event>> {
    let later = vec((0_u16..12, any::<bool>()), 1..4);
    (scenario(), later).prop_map(|(scenario, later)| {
        let of = |(offset, more)| {
            let datagram = Packet::udp(Client).ports(40_000, 53).data(40);
            event(&scenario, &datagram.fragment(offset, more), &Damage::default())
        };
        [(0, true)].into_iter().chain(later).map(of).collect()
    })
}

/// The packets of a case of the tables: each topic equally often, however many cases it has.
fn case_packets() -> impl Strategy<Value = Vec<Event>> {
    let indexes = (any::<Index>(), any::<Index>(), any::<Index>());
    (indexes, vec(damage(), 16)).prop_map(|((topic, case, scenario), damage)| {
        let topic: &Vec<Case> = topic.get(&CASES);
        let case = case.get(topic);
        let scenarios: Vec<_> = case.scenarios().collect();
        let packets = case.packets().zip(&damage);
        packets.map(|(packet, damage)| event(scenario.get(&scenarios), packet, damage)).collect()
    })
}

/// Any bytes after an EtherType, known or unknown to the parser.
fn garbage() -> impl Strategy<Value = Event> {
    let kind = select(vec![0x0800_u16, 0x86dd, 0x8100, 0x1234]);
    (vec(any::<u8>(), 15..200), kind, select(&Direction::ALL[..])).prop_map(
        |(mut bytes, kind, direction)| {
            bytes[12..14].copy_from_slice(&kind.to_be_bytes());
            Event::Frame(bytes, direction)
        },
    )
}

static CASES: LazyLock<Vec<Vec<Case>>> = LazyLock::new(cases::by_topic);

fn event(scenario: &Scenario, packet: &Packet, damage: &Damage) -> Event {
    let mut frame = packet.frame(scenario);
    damage.apply(&mut frame);
    Event::Frame(frame, packet.direction(scenario))
}

fn scenario() -> impl Strategy<Value = Scenario> {
    (select(&Family::ALL[..]), select(&Direction::ALL[..]))
        .prop_map(|(family, client)| Scenario { family, client })
}

/// Changes to a finished frame.
#[derive(Clone, Debug, Default)]
struct Damage {
    bytes: Vec<(Index, u8)>,
    end: Option<Index>,
    padding: usize,
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop_oneof![
        7 => Just(Vec::new()),
        3 => vec((any::<Index>(), any::<u8>()), 1..4),
    ];
    (bytes, weighted(0.06, any::<Index>()), select(vec![0, 0, 0, 0, 6, 40]))
        .prop_map(|(bytes, end, padding)| Damage { bytes, end, padding })
}

impl Damage {
    fn apply(&self, frame: &mut Vec<u8>) {
        for (index, byte) in &self.bytes {
            let at = index.index(frame.len());
            frame[at] = *byte;
        }
        if let Some(end) = self.end {
            frame.truncate(end.index(frame.len()));
        }
        frame.resize(frame.len() + self.padding, 0);
    }
}

fn body() -> impl Strategy<Value = Body> {
    let flags = select(vec![
        SYN,
        SYN,
        SYN | ACK,
        SYN | ACK,
        ACK,
        ACK,
        ACK,
        PSH | ACK,
        FIN | ACK,
        FIN | ACK,
        RST,
        RST | ACK,
        0,
        FIN,
        SYN | FIN,
        0xff,
    ]);
    let number = select(vec![0, cases::C, cases::C.wrapping_add(1), cases::S, cases::S + 1]);
    let icmp = select(vec![(8, 128), (8, 128), (0, 129), (13, 135), (3, 1), (11, 133), (5, 137)]);
    let protocol =
        select(vec![0_u8, 1, 2, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 253]);
    prop_oneof![
        10 => (flags, number.clone(), number, 0_u8..3)
            .prop_map(|(flags, seq, ack, options)| Body::Tcp { flags, seq, ack, options }),
        4 => Just(Body::Udp),
        4 => (icmp, 0_u8..5, 0_u16..3)
            .prop_map(|((v4, v6), code, id)| Body::Icmp { v4: (v4, code), v6: (v6, code), id }),
        2 => protocol.prop_map(Body::Raw),
        1 => select(vec![0x0806, 0x88cc, 0x0026, 0x8847]).prop_map(Body::Link),
    ]
}

fn extension() -> impl Strategy<Value = Extension> {
    let plain = prop_oneof![
        (1_u8..4).prop_map(Extension::hop_by_hop),
        (1_u8..4).prop_map(Extension::destination),
        (0_u8..5).prop_map(Extension::routing),
        (3_u8..9).prop_map(Extension::authentication),
        (0_u16..3, any::<bool>()).prop_map(|(offset, more)| Extension::fragment(offset, more)),
        Just(Extension::mobility()),
        Just(Extension::hip()),
        Just(Extension::shim6()),
    ];
    (plain, weighted(0.1, any::<u8>())).prop_map(|(header, length)| match length {
        Some(length) => header.length_field(length),
        None => header,
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let ends = (
        select(vec![Client, Client, Server]),
        select(vec![Near, Near, Near, Neighbour, Far]),
        select(vec![40_000, 40_000, 40_001, 443, 68, 546]),
        select(vec![443, 443, 53, 67, 547]),
    );
    let tags = prop_oneof![8 => Just(Vec::new()), 2 => vec(select(vec![DOT1Q, DOT1AD]), 0..4)];
    let extensions = prop_oneof![6 => Just(Vec::new()), 4 => vec(extension(), 0..10)];
    let ip = (
        select(vec![0, 0, 0, 0, 4, 40]),
        extensions,
        weighted(0.1, (select(vec![0, 0, 1, 2, 100]), any::<bool>())),
        select(vec![64, 255]),
    );
    let size = (select(vec![0, 0, 1, 8, 100]), weighted(0.05, 0_usize..24));
    (ends, tags, ip, body(), size).prop_map(|(ends, tags, ip, body, (data, only))| {
        let (from, outside, client_port, server_port) = ends;
        let (options, extensions, fragment, hop_limit) = ip;
        let packet = Packet::udp(from).ports(client_port, server_port).outside(outside);
        Packet {
            body,
            tags,
            options,
            extensions,
            fragment,
            data,
            cut_payload: only,
            ..packet.hop_limit(hop_limit)
        }
    })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    select(vec![
        Traffic::All,
        Traffic::Tcp(443, 443),
        Traffic::Tcp(443, 443),
        Traffic::Tcp(0, 65_535),
        Traffic::Udp(53, 53),
        Traffic::Udp(0, 1023),
        ECHO,
        Traffic::Icmp { v4: (3, None), v6: (1, None) },
        Traffic::Protocol(47),
        Traffic::Protocol(132),
    ])
}

fn peer() -> impl Strategy<Value = Peer> {
    select(vec![Peer::Near, Peer::Near, Peer::Wide, Peer::Far, Peer::Any, Peer::Host(Near)])
}

/// Rules: mostly the default rules of the cases, and a few more.
pub fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (select(vec![Client, Client, Server]), traffic(), peer(), weighted(0.2, end()));
    let more =
        vec(rule.prop_map(|(from, traffic, peer, ends)| Rule { from, traffic, peer, ends }), 0..6);
    // Sometimes both directions from anywhere: untracked traffic.
    let wide = select(vec![Traffic::All, Traffic::Tcp(0, 65_535), Traffic::Udp(0, 65_535)]);
    let both =
        wide.prop_map(|traffic| [allow(traffic, Peer::Any), allow_reverse(traffic, Peer::Any)]);
    (weighted(0.8, Just(default_rules())), more, weighted(0.2, both)).prop_map(
        |(defaults, more, both)| {
            defaults.into_iter().flatten().chain(more).chain(both.into_iter().flatten()).collect()
        },
    )
}
