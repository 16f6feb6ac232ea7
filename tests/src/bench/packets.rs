//! Nanoseconds of packets by program, family and number of rules; and the time of a gc run.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use firewall_ebpf::abi::flow::{Flow, FlowKey4};
use firewall_user::config::Config;
use firewall_user::dataplane::flows::expire::expire;
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::clock;
use firewall_user::dataplane::tables::interface::FlowSizes;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::dataplane::{Pins, instance};

use super::frames::{self, TcpKind};
use super::measure::{Expected, Hook, descriptor, renewed, repeated};
use super::subject::{
    ALLOWED_V6, FLOWS, NEW, SUBJECTS, Scratch, Shape, Subject, fill, fill_new, fill_new_of,
    minimal, outside_v4, outside_v6, subjects,
};
use crate::{bloom, interrupt};

/// The families, in the order of every pair.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// Number of rounds; in each, every row is measured once.
const ROUNDS: u32 = 15;
/// One row of the result.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The hook.
    pub hook: Hook,
    /// The packet and the program's path.
    pub what: String,
    /// Rules of the policy, if they matter.
    pub rules: Option<u32>,
    /// Nanoseconds of a packet, including the overhead of the test run.
    pub samples: Vec<f64>,
    /// The row of the empty program, which is the overhead.
    pub floor: Option<usize>,
    /// The row of the least program for such a packet of the same family: the minimal program of an
    /// established flow, or the floor of a new one.
    pub minimal: Option<usize>,
}

/// Measures all rows, and a gc run.
///
/// # Errors
/// A kernel operation fails, or a program returns an unexpected verdict.
pub fn measure(bench_object: &str) -> Result<(Vec<Cell>, Gc)> {
    let pins = Scratch::new("bench");
    let sizes = Sizes { rules: 65_536, interfaces: 16 };
    let mut maps = instance::ensure_maps(pins.pins(), &sizes)?;
    let flows = Config::default().maps.of_interface();
    // Room for the flows of a gc run.
    let flows = FlowSizes { new: NEW, tcp: 2 * EXPIRED, ..flows };
    let (mut subjects, untracked) = subjects(&mut maps, flows)?;
    let now = clock::now(pins.pins(), &maps)?;
    let mut minimal = minimal(bench_object)?;
    fill(&mut minimal, ["BENCH_V4", "BENCH_V6"], 0, now)?;
    let bits = fill(&mut subjects[0].ebpf, ["OWN_TCP_V4", "OWN_TCP_V6"], 0, now)?;
    let filters = MapData::from_pin(pins.pins().flows(0, "BLOOM")).context("open the filter")?;
    bloom::set(&mut Array::try_from(Map::Array(filters))?, &bits)?;

    fill_new(&mut minimal, ["FLOOR_V4", "FLOOR_V6"], now)?;
    for slot in 0..SUBJECTS {
        fill_new_of(pins.pins(), slot, now)?;
    }

    // From the allowed prefixes.
    let syn_v4 = frames::tcp_v4([192, 0, 2, 0], 0, TcpKind::Syn);
    let syn_v6 = frames::tcp_v6(ALLOWED_V6, 0, TcpKind::Syn);
    let mut results = Results { cells: Vec::new(), syns: [syn_v4, syn_v6] };
    for round in 0..ROUNDS {
        interrupt::check()?;
        eprint!("\rround {} of {ROUNDS}", round + 1);
        for hook in Hook::ALL {
            one_round(hook, round, &mut minimal, &subjects, &untracked, &mut results)?;
        }
    }
    eprintln!();
    let gc = measure_gc(pins.pins(), &maps, &mut subjects[0].ebpf)?;
    Ok((results.cells, gc))
}

/// Seconds of a gc run that removes [`EXPIRED`] flows.
#[derive(Clone, Copy, Debug)]
pub struct Gc {
    /// To read the tables, which contain other flows too.
    pub reading: f64,
    /// To remove them, each only if no packet used it in the meantime.
    pub removing: f64,
}

/// Expired flows of a [`Gc`] run.
pub const EXPIRED: u32 = 100_000;

fn measure_gc(pins: &Pins, maps: &Maps, ebpf: &mut Ebpf) -> Result<Gc> {
    // An expired time, which no other flow has.
    let (slot, last_seen) = (0, 1);
    let proven = ebpf.map_mut("OWN_TCP_V4").context("no map OWN_TCP_V4")?;
    let mut map: HashMap<_, FlowKey4, Flow> = proven.try_into()?;
    for outside in 0..EXPIRED {
        let key = FlowKey4 { outside, slot, protocol: 6, ..FlowKey4::default() };
        map.insert(key, Flow { last_seen, ..Flow::default() }, 0)?;
    }
    let start = Instant::now();
    let flows = maps.flows()?;
    let reading = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let removed = expire(pins, flows.iter().filter(|flow| flow.flow.last_seen == last_seen))?;
    let removing = start.elapsed().as_secs_f64();
    ensure!(
        removed.proven == u64::from(EXPIRED),
        "{} of {EXPIRED} expired flows removed",
        removed.proven
    );
    Ok(Gc { reading, removing })
}

fn one_round(
    hook: Hook,
    round: u32,
    minimal: &mut Ebpf,
    subjects: &[Subject],
    untracked: &Ebpf,
    out: &mut Results,
) -> Result<()> {
    // Another flow in every round, because the memory location of its record matters.
    let established_v4 = frames::tcp_v4(outside_v4(round), 1024, TcpKind::Ack);
    let established_v6 = frames::tcp_v6(outside_v6(round), 1024, TcpKind::Ack);
    let (empty_name, minimal_name, floor_name) = match hook {
        Hook::Xdp => ("empty_xdp", "minimal_xdp", "floor_xdp"),
        Hook::Tcx => ("empty_tcx", "minimal_tcx", "floor_tcx"),
    };
    let floor = repeated(minimal, hook, empty_name, &established_v4, Expected::Pass)?;
    let floor = out.add(hook, "empty program", None, floor, None, None);
    let empty = descriptor(minimal, empty_name)?;
    let floor_of_new = descriptor(minimal, floor_name)?;
    let mut floors_of_new = [(0, 0); 2];
    for (family, name) in FAMILIES.into_iter().enumerate() {
        let syn = &mut out.syns[family];
        let once = renewed(minimal, hook, &empty, syn, Expected::Pass)?;
        let new = renewed(minimal, hook, &floor_of_new, syn, Expected::Pass)?;
        let what = format!("empty program, another SYN every time, {name}");
        let once = out.add(hook, &what, None, once, None, None);
        let what = format!("floor of a new flow, {name}");
        floors_of_new[family] = (once, out.add(hook, &what, None, new, Some(once), None));
    }

    let minimal_time = repeated(minimal, hook, minimal_name, &established_v4, Expected::Pass)?;
    let minimal_v4 = out.add(hook, "minimal program, IPv4", None, minimal_time, Some(floor), None);
    let minimal_time = repeated(minimal, hook, minimal_name, &established_v6, Expected::Pass)?;
    let minimal_v6 = out.add(hook, "minimal program, IPv6", None, minimal_time, Some(floor), None);

    let product = &subjects[0].ebpf;
    let name = hook.receive();
    let v4 = repeated(product, hook, name, &established_v4, Expected::Pass)?;
    out.add(hook, "established, IPv4", None, v4, Some(floor), Some(minimal_v4));
    let v6 = repeated(product, hook, name, &established_v6, Expected::Pass)?;
    out.add(hook, "established, IPv6", None, v6, Some(floor), Some(minimal_v6));
    let exempt = repeated(product, hook, name, &frames::arp(), Expected::Pass)?;
    out.add(hook, "exempt (ARP)", None, exempt, Some(floor), None);
    let no_flow = repeated(untracked, hook, name, &established_v4, Expected::Pass)?;
    out.add(hook, "untracked, IPv4", None, no_flow, Some(floor), None);

    for subject in subjects {
        let rules = Some(subject.rules);
        let what = match subject.shape {
            Shape::Prefixes => "by prefix",
            Shape::Ports => "by port",
        };
        let ebpf = &subject.ebpf;
        let program = descriptor(ebpf, name)?;
        for (family, name) in FAMILIES.into_iter().enumerate() {
            let new = renewed(minimal, hook, &program, &mut out.syns[family], Expected::Pass)?;
            let text = format!("new flow allowed, {name}, rules {what}");
            let (once, floor_of_new) = floors_of_new[family];
            out.add(hook, &text, rules, new, Some(once), Some(floor_of_new));
        }
        // From the allowed prefix to a port that is not allowed: the complete lookup.
        let mut dropped_v4 = out.syns[0].clone();
        dropped_v4[36..38].copy_from_slice(&9_u16.to_be_bytes());
        let dropped = repeated(ebpf, hook, name, &dropped_v4, Expected::Drop)?;
        out.add(hook, &format!("dropped, IPv4, rules {what}"), rules, dropped, Some(floor), None);
        let dropped_v6 = frames::tcp_v6(outside_v6(FLOWS), 1024, TcpKind::Syn);
        let dropped = repeated(ebpf, hook, name, &dropped_v6, Expected::Drop)?;
        out.add(hook, &format!("dropped, IPv6, rules {what}"), rules, dropped, Some(floor), None);
    }
    Ok(())
}

struct Results {
    cells: Vec<Cell>,
    /// The last SYN of each family, from which the next one is derived.
    syns: [Vec<u8>; 2],
}

impl Results {
    /// Adds the samples of a round to a row; returns the index of the row.
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
        let index = self.cells.iter().position(same).unwrap_or_else(|| {
            let samples = Vec::new();
            self.cells.push(Cell { hook, what: what.to_owned(), rules, samples, floor, minimal });
            self.cells.len() - 1
        });
        self.cells[index].samples.extend(nanoseconds);
        index
    }
}
