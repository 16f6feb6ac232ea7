//! What is measured, and setting it up.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, HashMap};
use aya::{Ebpf, EbpfLoader};
use firewall_ebpf::bloom::Bit;
use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::flow::{Address as _, Flow, FlowKey4, FlowKey6, PROVEN};
use firewall_ebpf::interface::{Direction, Orientation, State, TcpChecks};
use firewall_ebpf::parse::{V4, V6};
use firewall_user::dataplane::flows::expire::expire;
use firewall_user::dataplane::hooks::load::{self, Settings};
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::clock;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::dataplane::tables::policy::Wanted;
use firewall_user::dataplane::{Pins, instance};
use firewall_user::model::{PortRange, Tracking, Traffic};
use firewall_user::policy::{PolicyInterner, ResolvedRule};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::frames::{self, INSIDE_V4, INSIDE_V6, PORT, Segment};
use super::measure::{Answer, Hook, descriptor, load, renewed, repeated};
use crate::{bloom, interrupt};

/// Times that everything is measured, in turn.
const ROUNDS: u32 = 15;
/// Flows in the table, so that a lookup is not alone in a bucket.
const FLOWS: u32 = 16_384;
/// Rules of a policy.
const RULES: [u32; 4] = [1, 100, 1_000, 10_000];

/// One measured thing.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The hook.
    pub hook: Hook,
    /// What the packet meets.
    pub what: String,
    /// Rules of the policy, where they matter.
    pub rules: Option<u32>,
    /// Nanoseconds of a packet, the harness' floor included.
    pub samples: Vec<f64>,
    /// The cell of the empty program, which is the floor.
    pub floor: Option<usize>,
    /// The cell of the minimal program of the same family, where a comparison makes sense.
    pub minimal: Option<usize>,
}

/// How the rules of a policy differ from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Each has a prefix of its own.
    Prefixes,
    /// All have one prefix, each its own port.
    Ports,
}

/// A policy in the kernel with the programs that look into it.
struct Subject {
    shape: Shape,
    rules: u32,
    ebpf: Ebpf,
}

/// A pin directory that goes when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch(Pins);

impl Scratch {
    pub(super) fn new(what: &str) -> Self {
        Self(Pins::new(format!("/sys/fs/bpf/secgroup-{what}-{}", std::process::id())))
    }

    pub(super) const fn pins(&self) -> &Pins {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = instance::remove_all(&self.0) {
            eprintln!("{error}");
        }
    }
}

/// Measures everything.
///
/// # Errors
/// The kernel refuses, or a program answers other than it should.
pub fn measure_all(bench_object: &str) -> Result<(Vec<Cell>, Collection)> {
    let pins = Scratch::new("bench");
    let sizes = Sizes {
        flows_new: 131_072,
        flows_proven: 262_144,
        fragments: 8192,
        rules: 65_536,
        interfaces: 16,
    };
    let mut maps = instance::ensure_maps(&pins.0, &sizes)?;
    let (mut subjects, untracked) = subjects(&pins.0, &sizes, &mut maps)?;
    let now = clock::now(&pins.0, &maps)?;
    let mut minimal = minimal(bench_object)?;
    fill(&mut minimal, ["BENCH_V4", "BENCH_V6"], 0, now)?;
    let bits = fill(&mut subjects[0].ebpf, ["FLOWS_PROVEN_V4", "FLOWS_PROVEN_V6"], 0, now)?;
    let filters = subjects[0].ebpf.map_mut("BLOOM").context("no map BLOOM")?;
    bloom::set(&mut Array::try_from(filters)?, &bits)?;

    // From the allowed prefix.
    let syn = frames::tcp_v4([192, 0, 2, 0], 0, Segment::Syn);
    let mut results = Results { cells: Vec::new(), syn };
    for round in 0..ROUNDS {
        interrupt::check()?;
        eprint!("\rround {} of {ROUNDS}", round + 1);
        for hook in Hook::ALL {
            one_round(hook, round, &mut minimal, &subjects, &untracked, &mut results)?;
        }
    }
    eprintln!();
    let collection = collect(&pins.0, &maps, &mut subjects[0].ebpf)?;
    Ok((results.cells, collection))
}

/// Seconds that it takes to reclaim [`DEAD`] dead flows.
#[derive(Clone, Copy, Debug)]
pub struct Collection {
    /// To read the tables, in which they are not alone.
    pub reading: f64,
    /// To remove them, each only if nobody touched it since.
    pub removing: f64,
}

/// Dead flows for a [`Collection`].
pub const DEAD: u32 = 100_000;

fn collect(pins: &Pins, maps: &Maps, ebpf: &mut Ebpf) -> Result<Collection> {
    // Of no interface, and long gone.
    let (slot, last_seen) = (u16::MAX, 1);
    let proven = ebpf.map_mut("FLOWS_PROVEN_V4").context("no map FLOWS_PROVEN_V4")?;
    let mut map: HashMap<_, FlowKey4, Flow> = proven.try_into()?;
    for outside in 0..DEAD {
        let key = FlowKey4 { outside, slot, protocol: 6, ..FlowKey4::default() };
        map.insert(key, Flow { last_seen, ..Flow::default() }, 0)?;
    }
    let start = Instant::now();
    let flows = maps.flows()?;
    let reading = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let reaped = expire(pins, flows.iter().filter(|flow| flow.slot == slot))?;
    let removing = start.elapsed().as_secs_f64();
    ensure!(reaped.proven == u64::from(DEAD), "{} of {DEAD} dead flows removed", reaped.proven);
    Ok(Collection { reading, removing })
}

fn one_round(
    hook: Hook,
    round: u32,
    minimal: &mut Ebpf,
    subjects: &[Subject],
    untracked: &Ebpf,
    out: &mut Results,
) -> Result<()> {
    // Of another flow in every round: where a record lies in memory is luck.
    let established_v4 = frames::tcp_v4(outside_v4(round), 1024, Segment::Ack);
    let established_v6 = frames::tcp_v6(outside_v6(round), 1024, Segment::Ack);
    let (empty_name, minimal_name) = match hook {
        Hook::Xdp => ("empty_xdp", "minimal_xdp"),
        Hook::Tcx => ("empty_tcx", "minimal_tcx"),
    };
    let floor = repeated(minimal, hook, empty_name, &established_v4, Answer::Pass)?;
    let floor = out.add(hook, "empty program", None, floor, None, None);
    let empty = descriptor(minimal, empty_name)?;
    let once = renewed(minimal, hook, &empty, &mut out.syn, Answer::Pass)?;
    let once = out.add(hook, "empty program, every packet another", None, once, None, None);

    let least = repeated(minimal, hook, minimal_name, &established_v4, Answer::Pass)?;
    let least_v4 = out.add(hook, "minimal program, IPv4", None, least, Some(floor), None);
    let least = repeated(minimal, hook, minimal_name, &established_v6, Answer::Pass)?;
    let least_v6 = out.add(hook, "minimal program, IPv6", None, least, Some(floor), None);

    let product = &subjects[0].ebpf;
    let name = hook.receive();
    let v4 = repeated(product, hook, name, &established_v4, Answer::Pass)?;
    out.add(hook, "established, IPv4", None, v4, Some(floor), Some(least_v4));
    let v6 = repeated(product, hook, name, &established_v6, Answer::Pass)?;
    out.add(hook, "established, IPv6", None, v6, Some(floor), Some(least_v6));
    let exempt = repeated(product, hook, name, &frames::arp(), Answer::Pass)?;
    out.add(hook, "exempt (ARP)", None, exempt, Some(floor), None);
    let no_flow = repeated(untracked, hook, name, &established_v4, Answer::Pass)?;
    out.add(hook, "untracked, IPv4", None, no_flow, Some(floor), None);

    for subject in subjects {
        let rules = Some(subject.rules);
        let what = match subject.shape {
            Shape::Prefixes => "by prefix",
            Shape::Ports => "by port",
        };
        let ebpf = &subject.ebpf;
        let program = descriptor(ebpf, name)?;
        let new = renewed(minimal, hook, &program, &mut out.syn, Answer::Pass)?;
        let text = format!("new flow allowed, IPv4, rules {what}");
        out.add(hook, &text, rules, new, Some(once), None);
        // From within the allowed prefix, to a port that is not: the whole search is made.
        let mut refused_v4 = out.syn.clone();
        refused_v4[36..38].copy_from_slice(&9_u16.to_be_bytes());
        let refused = repeated(ebpf, hook, name, &refused_v4, Answer::Drop)?;
        out.add(hook, &format!("refused, IPv4, rules {what}"), rules, refused, Some(floor), None);
        let refused_v6 = frames::tcp_v6(outside_v6(FLOWS), 1024, Segment::Syn);
        let refused = repeated(ebpf, hook, name, &refused_v6, Answer::Drop)?;
        out.add(hook, &format!("refused, IPv6, rules {what}"), rules, refused, Some(floor), None);
    }
    Ok(())
}

struct Results {
    cells: Vec<Cell>,
    /// The last SYN of the flows that were opened.
    syn: Vec<u8>,
}

impl Results {
    /// Adds a round to a cell; returns the cell's place.
    fn add(
        &mut self,
        hook: Hook,
        what: &str,
        rules: Option<u32>,
        nanoseconds: Vec<f64>,
        floor: Option<usize>,
        minimal: Option<usize>,
    ) -> usize {
        let same = |cell: &Cell| cell.hook == hook && cell.what == what && cell.rules == rules;
        let place = self.cells.iter().position(same).unwrap_or_else(|| {
            let samples = Vec::new();
            self.cells.push(Cell { hook, what: what.to_owned(), rules, samples, floor, minimal });
            self.cells.len() - 1
        });
        self.cells[place].samples.extend(nanoseconds);
        place
    }
}

fn outside_v4(number: u32) -> [u8; 4] {
    let [.., high, low] = number.to_be_bytes();
    [172, 16, high, low]
}

fn outside_v6(number: u32) -> [u8; 16] {
    let [.., high, low] = number.to_be_bytes();
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]
}

fn subjects(pins: &Pins, sizes: &Sizes, maps: &mut Maps) -> Result<(Vec<Subject>, Ebpf)> {
    let mut subjects = Vec::new();
    let mut slot = 0;
    for shape in [Shape::Prefixes, Shape::Ports] {
        for rules in RULES {
            let ebpf = programs(pins, sizes, maps, slot, &policy(shape, rules)?)?;
            subjects.push(Subject { shape, rules, ebpf });
            slot += 1;
        }
    }
    // From anywhere, and every answer to anywhere: no flow.
    let any = vec![IpNet::V4(Ipv4Net::default())];
    let asked = rule(1, PORT, any.clone());
    let answered = ResolvedRule {
        number: 2,
        direction: Direction::Egress,
        traffic: Traffic::All,
        networks: any,
    };
    let untracked = programs(pins, sizes, maps, slot, &[asked, answered])?;
    Ok((subjects, untracked))
}

/// A policy in force on a slot of its own, and the programs that look into it.
fn programs(
    pins: &Pins,
    sizes: &Sizes,
    maps: &mut Maps,
    slot: u16,
    rules: &[ResolvedRule],
) -> Result<Ebpf> {
    let mut book = PolicyInterner::default();
    let policy = book.compile(rules, Tracking::Auto)?;
    let wanted = Wanted { slot, book: &book, policy: &policy, known: None, audit: false };
    let plan = maps.plan(&wanted)?;
    let shadow = maps.shadow(&wanted, plan, &mut |_| {})?;
    maps.publish(&[&shadow])?;
    maps.flip(vec![shadow])?;
    let fixed = Settings {
        slot,
        orientation: Orientation::Host,
        has_ethernet: true,
        non_ip: NonIp::Control,
        tcp_checks: TcpChecks::Guard,
        tcp_loose: true,
        revalidate: false,
        timeouts: BTreeMap::new(),
    };
    let mut ebpf = load::open(pins, sizes, &fixed)?;
    for hook in Hook::ALL {
        load(&mut ebpf, hook, hook.receive())?;
    }
    Ok(ebpf)
}

/// The last rule allows [`PORT`] from 192.0.2.0/24; the others are of its kind but elsewhere.
fn policy(shape: Shape, count: u32) -> Result<Vec<ResolvedRule>> {
    let here_v4 = IpNet::V4("192.0.2.0/24".parse()?);
    let mut rules = vec![rule(1, PORT, vec![here_v4])];
    for number in 1..count {
        let [_, b, c, d] = number.to_be_bytes();
        rules.push(match shape {
            Shape::Prefixes => {
                let v4 = Ipv4Net::new([11 + b, c, d, 0].into(), 24)?;
                let v6 = Ipv6Net::new(
                    [0x2a00, 0, 0, u16::from_be_bytes([c, d]), 0, 0, 0, 0].into(),
                    64,
                )?;
                rule(number + 1, PORT, vec![v4.into(), v6.into()])
            }
            Shape::Ports => {
                // Every other port, so that no two become one range.
                let port = 1_000 + u16::try_from(number * 2)?;
                let any_v6 = IpNet::V6(Ipv6Net::default());
                rule(number + 1, port, vec![here_v4, any_v6])
            }
        });
    }
    Ok(rules)
}

fn rule(number: u32, port: u16, networks: Vec<IpNet>) -> ResolvedRule {
    let traffic = Traffic::Tcp(PortRange { from: port, to: port });
    ResolvedRule { number, direction: Direction::Ingress, traffic, networks }
}

fn minimal(path: &str) -> Result<Ebpf> {
    let bytes = fs::read(path).with_context(|| format!("read {path}"))?;
    let mut ebpf = EbpfLoader::new().load(&bytes).with_context(|| format!("load {path}"))?;
    for name in ["empty_xdp", "minimal_xdp", "renew_xdp"] {
        load(&mut ebpf, Hook::Xdp, name)?;
    }
    for name in ["empty_tcx", "minimal_tcx", "renew_tcx"] {
        load(&mut ebpf, Hook::Tcx, name)?;
    }
    Ok(ebpf)
}

/// Established flows of each family; returns their bits in the filter of flows.
fn fill(ebpf: &mut Ebpf, [v4, v6]: [&str; 2], slot: u16, now: u64) -> Result<Vec<Bit>> {
    let mut bits = Vec::new();
    let flow =
        Flow { last_seen: now, state: State::Established as u8, flags: PROVEN, ..Flow::default() };
    let (inside_port, outside_port) = (PORT.to_be(), 1024_u16.to_be());
    let mut map: HashMap<_, FlowKey4, Flow> =
        ebpf.map_mut(v4).with_context(|| format!("no map {v4}"))?.try_into()?;
    for number in 0..FLOWS {
        let inside = u32::from_ne_bytes(INSIDE_V4);
        let outside = u32::from_ne_bytes(outside_v4(number));
        let key =
            FlowKey4 { inside, outside, inside_port, outside_port, slot, protocol: 6, query: 0 };
        bits.push(V4::bit(&key));
        map.insert(key, flow, 0)?;
    }
    let mut map: HashMap<_, FlowKey6, Flow> =
        ebpf.map_mut(v6).with_context(|| format!("no map {v6}"))?.try_into()?;
    for number in 0..FLOWS {
        let (inside, outside) = (words(INSIDE_V6), words(outside_v6(number)));
        let key =
            FlowKey6 { inside, outside, inside_port, outside_port, slot, protocol: 6, query: 0 };
        bits.push(V6::bit(&key));
        map.insert(key, flow, 0)?;
    }
    Ok(bits)
}

/// An address as it lies in a packet.
fn words(octets: [u8; 16]) -> [u64; 2] {
    let both = u128::from_ne_bytes(octets);
    let low = u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0);
    [low, u64::try_from(both >> 64).unwrap_or(0)]
}
