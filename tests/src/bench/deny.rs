//! Nanoseconds of packets by a network ACL and by block lists, beside the least program for each.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, ArrayOfMaps, LpmTrie, Map, MapData, MapError};
use firewall_ebpf::abi::block::Blocking;
use firewall_ebpf::abi::filter::{self, entry_number, filter_index};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::Active;
use firewall_user::config::Config;
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::clock;
use firewall_user::dataplane::{Pins, instance};

use super::frames::{self, TcpKind};
use super::measure::{Expected, Hook, load, repeated};
use super::rows::{Row, Rows};
use super::subject::{Scratch, Shape, fill, minimal, outside_v4, outside_v6, policy, programs};
use crate::bloom;
use crate::decision::deny::{Entry, Filter, deny, permit_all};
use crate::decision::kernel_maps::bank::Bank;
use crate::decision::rules::{Peer, Traffic};
use crate::decision::scenario::{Family, Role, Scenario};

/// Number of rounds; in each, every row is measured once.
const ROUNDS: u32 = 7;
/// Networks in the block lists.
const LISTS: [u32; 3] = [1, 1_000, 1_000_000];
/// Linux: required for tries.
const BPF_F_NO_PREALLOC: u32 = 1;
/// The slot of the measured programs.
const SLOT: u32 = 0;

type Trie<const N: usize> = LpmTrie<MapData, [u8; N], [u32; 2]>;

/// The row of the overhead, and that of the least program.
type Beside = Option<(usize, usize)>;

/// The maps that select what is measured.
struct Switches {
    active: Array<MapData, u64>,
    word: Active,
    blocking: Array<MapData, u64>,
    blocks_v4: ArrayOfMaps<MapData, Trie<4>>,
    blocks_v6: ArrayOfMaps<MapData, Trie<16>>,
}

fn open<T: TryFrom<Map, Error = MapError>>(path: &Path, kind: fn(MapData) -> Map) -> Result<T> {
    let data = MapData::from_pin(path).with_context(|| format!("open {}", path.display()))?;
    Ok(T::try_from(kind(data))?)
}

impl Switches {
    fn set(&mut self, filter: bool, blocks: bool) -> Result<()> {
        let word = self.word.with_filter(filter.then_some(0)).with_blocks(blocks);
        Ok(self.active.set(SLOT, word.0, 0)?)
    }
}

/// Measures all rows.
///
/// # Errors
/// A kernel operation fails, or a program returns an unexpected verdict.
pub fn measure(bench_object: &str) -> Result<Vec<Row<Beside>>> {
    let scratch = Scratch::new("bench-deny");
    let pins = scratch.pins();
    let mut maps = instance::ensure_maps(pins, &Sizes { rules: 65_536, interfaces: 2 })?;
    let sizes = Config::default().maps.of_interface();
    let mut product = programs(&mut maps, sizes, 0, &policy(Shape::Ports, 1)?)?;
    let now = clock::now(pins, &maps)?;
    let mut least = minimal(bench_object)?;
    load(&mut least, Hook::Xdp, "block_xdp")?;
    load(&mut least, Hook::Tcx, "block_tcx")?;
    fill(&mut least, ["BENCH_V4", "BENCH_V6"], 0, now)?;
    let bits = fill(&mut product, ["OWN_TCP_V4", "OWN_TCP_V6"], 0, now)?;
    bloom::set(&mut open(&pins.flows(0, "BLOOM"), Map::Array)?, &bits)?;
    let _bank = write_filter(pins)?;
    let mut switches = Switches {
        active: open(&pins.map("ACTIVE"), Map::Array)?,
        word: maps.active(0)?,
        blocking: open(&pins.map("BLOCKING"), Map::Array)?,
        blocks_v4: open(&pins.map("BLOCKS_V4"), Map::ArrayOfMaps)?,
        blocks_v6: open(&pins.map("BLOCKS_V6"), Map::ArrayOfMaps)?,
    };
    switches.blocking.set(0, Blocking::new([true, true], 0, 0).0, 0)?;
    let mut rows = Rows::new();
    for round in 0..ROUNDS {
        for hook in Hook::ALL {
            established(hook, round, &least, &product, &mut switches, &mut rows)?;
        }
    }
    let mut of_least: Tries = (
        LpmTrie::try_from(least.take_map("BENCH_BLOCKS_V4").context("no BENCH_BLOCKS_V4")?)?,
        LpmTrie::try_from(least.take_map("BENCH_BLOCKS_V6").context("no BENCH_BLOCKS_V6")?)?,
    );
    let mut listed = 0;
    let mut tries: Tries = (
        LpmTrie::create(LISTS[2] + 1, BPF_F_NO_PREALLOC)?,
        LpmTrie::create(LISTS[2] + 1, BPF_F_NO_PREALLOC)?,
    );
    switches.blocks_v4.set(0, &tries.0, 0)?;
    switches.blocks_v6.set(0, &tries.1, 0)?;
    for list in LISTS {
        for number in listed..list {
            insert(&mut tries, number)?;
            insert(&mut of_least, number)?;
        }
        listed = list;
        eprintln!("{list} networks");
        for round in 0..ROUNDS {
            for hook in Hook::ALL {
                blocked(hook, round, list, &least, &product, &mut switches, &mut rows)?;
            }
        }
    }
    Ok(rows.0)
}

type Tries = (Trie<4>, Trie<16>);

/// The address of a network of a list: spread over all, because an odd factor is a bijection. The first one
/// is 10.0.0.0 and 2a00::.
fn network(number: u32) -> ([u8; 4], [u8; 16]) {
    let spread = number.wrapping_mul(0x9e37_79b1).wrapping_add(0x0a00_0000);
    let mut v6 = [0; 16];
    v6[..2].copy_from_slice(&[0x2a, 0]);
    v6[2..6].copy_from_slice(&spread.to_be_bytes());
    (spread.to_be_bytes(), v6)
}

fn insert((v4, v6): &mut Tries, number: u32) -> Result<()> {
    let (at_v4, at_v6) = network(number);
    let words = [entry_number(0); 2];
    // Not the networks of the established flows.
    if at_v4[..2] != [172, 16] {
        v4.insert(&Key::new(32, at_v4), words, 0)?;
    }
    Ok(v6.insert(&Key::new(48, at_v6), words, 0)?)
}

/// A filter of 20 entries for each direction, of which the last allows everything.
fn write_filter(pins: &Pins) -> Result<Bank> {
    let denied = (1..20).map(|port| deny(Role::Client, Traffic::Tcp(port, port), Peer::Any));
    let entries: Vec<Entry> = denied.chain(permit_all()).collect();
    let scenarios = Family::ALL.map(|family| Scenario { family, client: Direction::Ingress });
    let tables = Filter::in_all(&entries, &scenarios).tables();
    let mut bank = Bank::new();
    bank.write(&tables, false);
    let at = filter_index(0);
    let mut v4: ArrayOfMaps<MapData, Trie<4>> = open(&pins.map("PREFIXES_V4"), Map::ArrayOfMaps)?;
    v4.set(at, &bank.v4, 0)?;
    let mut v6: ArrayOfMaps<MapData, Trie<16>> = open(&pins.map("PREFIXES_V6"), Map::ArrayOfMaps)?;
    v6.set(at, &bank.v6, 0)?;
    let mut classes: ArrayOfMaps<MapData, Array<MapData, [firewall_ebpf::abi::policy::Class; 2]>> =
        open(&pins.map("CLASSES"), Map::ArrayOfMaps)?;
    classes.set(at, &bank.classes, 0)?;
    let mut pages: ArrayOfMaps<MapData, Array<MapData, firewall_ebpf::abi::policy::Page>> =
        open(&pins.map("RANGES"), Map::ArrayOfMaps)?;
    pages.set(at, &bank.pages, 0)?;
    let mut filters: Array<MapData, u64> = open(&pins.map("FILTERS"), Map::Array)?;
    filters.set(0, filter::Filter::new(7 << 33, tables.has().prefixes).0, 0)?;
    Ok(bank)
}

/// The packets of an established flow of either family.
fn packets(round: u32) -> [(&'static str, Vec<u8>); 2] {
    [
        ("IPv4", frames::tcp_v4(outside_v4(round), 1024, TcpKind::Ack)),
        ("IPv6", frames::tcp_v6(outside_v6(round), 1024, TcpKind::Ack)),
    ]
}

const fn names(hook: Hook) -> [&'static str; 3] {
    match hook {
        Hook::Xdp => ["empty_xdp", "minimal_xdp", "block_xdp"],
        Hook::Tcx => ["empty_tcx", "minimal_tcx", "block_tcx"],
    }
}

fn established(
    hook: Hook,
    round: u32,
    least: &aya::Ebpf,
    product: &aya::Ebpf,
    switches: &mut Switches,
    rows: &mut Rows<Beside>,
) -> Result<()> {
    let [empty, minimal, _] = names(hook);
    for (family, packet) in packets(round) {
        let floor = repeated(least, hook, empty, &packet, Expected::Pass)?;
        let floor = rows.add(hook, format!("empty program, {family}"), floor, None);
        let least = repeated(least, hook, minimal, &packet, Expected::Pass)?;
        let least =
            rows.add(hook, format!("minimal program, {family}"), least, Some((floor, floor)));
        for (filter, what) in [(false, "without an ACL"), (true, "ACL of 20 entries")] {
            switches.set(filter, false)?;
            let time = repeated(product, hook, hook.receive(), &packet, Expected::Pass)?;
            rows.add(hook, format!("established, {what}, {family}"), time, Some((floor, least)));
        }
    }
    switches.set(false, false)
}

fn blocked(
    hook: Hook,
    round: u32,
    list: u32,
    least: &aya::Ebpf,
    product: &aya::Ebpf,
    switches: &mut Switches,
    rows: &mut Rows<Beside>,
) -> Result<()> {
    let [empty, _, block] = names(hook);
    switches.set(false, true)?;
    // Another network of the list in every round.
    let (from_v4, from_v6) = network(round.wrapping_mul(9_973) % list);
    let dropped = [
        ("IPv4", frames::tcp_v4(from_v4, 1024, TcpKind::Ack)),
        ("IPv6", frames::tcp_v6(from_v6, 1024, TcpKind::Ack)),
    ];
    let kinds = [
        ("dropped", Expected::Drop, dropped),
        ("passed, established", Expected::Pass, packets(round)),
    ];
    for (kind, expected, packets) in kinds {
        for (family, packet) in packets {
            let floor = repeated(least, hook, empty, &packet, Expected::Pass)?;
            let floor = rows.add(hook, format!("empty program, {family}"), floor, None);
            let time = repeated(least, hook, block, &packet, expected)?;
            let text = format!("trie alone, {kind}, {list} blocked, {family}");
            let least = rows.add(hook, text, time, Some((floor, floor)));
            let time = repeated(product, hook, hook.receive(), &packet, expected)?;
            let text = format!("{kind}, {list} blocked, {family}");
            rows.add(hook, text, time, Some((floor, least)));
        }
    }
    switches.set(false, false)
}

/// The lower quartile: other work on the machine only makes a packet slower.
fn quartile(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 4]
}

/// Prints each row without the overhead, and how many times the least program it takes.
pub fn print(rows: &[Row<Beside>]) {
    println!("\n{:4} {:50} {:>8} {:>7}", "hook", "packet", "ns", "times");
    for row in rows {
        let time = quartile(&row.samples);
        let Some((floor, least)) = row.beside else {
            println!("{:4} {:50} {time:8.1}", row.hook.name(), row.what);
            continue;
        };
        let floor_time = quartile(&rows[floor].samples);
        let net = time - floor_time;
        let times = if least == floor {
            String::new()
        } else {
            format!("{:.2}", net / (quartile(&rows[least].samples) - floor_time))
        };
        println!("{:4} {:50} {net:8.1} {times:>7}", row.hook.name(), row.what);
    }
}
