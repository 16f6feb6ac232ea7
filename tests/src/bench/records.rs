//! Nanoseconds of dropped packets, recorded and not: of one tuple, and of another in every packet.

use std::time::Duration;

use anyhow::Result;
use firewall_user::config::Config;
use firewall_user::dataplane::instance;
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::records::{self, Flush, Ring, Watch};
use firewall_user::dataplane::tables::maps::Maps;

use super::frames::{self, TcpKind};
use super::measure::{Expected, Hook, descriptor, renewed, repeated};
use super::rows::{Row, Rows};
use super::subject::{ALLOWED_V6, Scratch, Shape, minimal, policy, programs};
use crate::interrupt;

/// Number of rounds; in each, every row is measured once.
const ROUNDS: u32 = 15;
/// The slot of the measured programs.
const SLOT: u16 = 0;
/// Longer than the bench.
const WATCH: Duration = Duration::from_secs(3600);
/// A port that no rule allows, where a frame with a TCP header has it.
const CLOSED: [u8; 2] = 9_u16.to_be_bytes();

/// The rows that one is compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// The row of the overhead.
    floor: Option<usize>,
    /// The row of the same packet while nobody watches.
    unwatched: Option<usize>,
}

/// Measures all rows.
///
/// # Errors
/// A kernel operation fails, or a program returns an unexpected verdict.
pub fn measure(bench_object: &str) -> Result<Vec<Row<Beside>>> {
    let scratch = Scratch::new("bench-records");
    let pins = scratch.pins();
    let mut maps = instance::ensure_maps(pins, &Sizes { rules: 65_536, interfaces: 2 })?;
    let sizes = Config::default().maps.of_interface();
    let product = programs(&mut maps, sizes, SLOT, &policy(Shape::Ports, 1)?)?;
    let mut minimal = minimal(bench_object)?;
    let mut ring = Ring::open(pins)?;

    // From the allowed prefixes, to a port that is not allowed.
    let mut syn_v4 = frames::tcp_v4([192, 0, 2, 0], 0, TcpKind::Syn);
    syn_v4[36..38].copy_from_slice(&CLOSED);
    let mut syn_v6 = frames::tcp_v6(ALLOWED_V6, 0, TcpKind::Syn);
    syn_v6[56..58].copy_from_slice(&CLOSED);
    let mut syns = [("IPv4", syn_v4), ("IPv6", syn_v6)];
    let mut rows = Rows::new();
    for round in 0..ROUNDS {
        interrupt::check()?;
        eprint!("\rround {} of {ROUNDS}", round + 1);
        for hook in Hook::ALL {
            let empty_name = if hook == Hook::Xdp { "empty_xdp" } else { "empty_tcx" };
            let empty = descriptor(&minimal, empty_name)?;
            let program = descriptor(&product, hook.receive())?;
            for (family, syn) in &mut syns {
                let floor = repeated(&minimal, hook, empty_name, syn, Expected::Pass)?;
                let floor =
                    rows.add(hook, format!("empty program, {family}"), floor, Beside::default());
                let mut unwatched = None;
                for (drops, how) in [(false, "not recorded"), (true, "recorded")] {
                    watch(&maps, drops)?;
                    let time = repeated(&product, hook, hook.receive(), syn, Expected::Drop)?;
                    let what = format!("dropped, one tuple, {how}, {family}");
                    let beside = Beside { floor: Some(floor), unwatched };
                    unwatched = Some(rows.add(hook, what, time, beside));
                    drain(&maps, &mut ring)?;
                }
                let floor = renewed(&mut minimal, hook, &empty, syn, Expected::Pass)?;
                let what = format!("empty program, another tuple every time, {family}");
                let floor = rows.add(hook, what, floor, Beside::default());
                let mut unwatched = None;
                for (drops, how) in [(false, "not recorded"), (true, "recorded")] {
                    watch(&maps, drops)?;
                    let time = renewed(&mut minimal, hook, &program, syn, Expected::Drop)?;
                    let what = format!("dropped, another tuple every time, {how}, {family}");
                    let beside = Beside { floor: Some(floor), unwatched };
                    unwatched = Some(rows.add(hook, what, time, beside));
                    drain(&maps, &mut ring)?;
                }
            }
        }
    }
    eprintln!();
    Ok(rows.0)
}

fn watch(maps: &Maps, drops: bool) -> Result<()> {
    Ok(records::watch(maps, &[SLOT], Watch { drops, passes: false }, WATCH)?)
}

/// What a reader does each second.
fn drain(maps: &Maps, ring: &mut Ring) -> Result<()> {
    records::flush(maps.pins(), Flush::default())?;
    ring.read(usize::MAX)?;
    Ok(())
}

/// The mean of the fastest quarter, which other load on the machine affects least.
fn fastest(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.truncate(sorted.len().div_ceil(4));
    sorted.iter().sum::<f64>() / f64::from(u32::try_from(sorted.len()).unwrap_or(u32::MAX))
}

/// Prints each row without the overhead, and what recording adds to it.
pub fn print(rows: &[Row<Beside>]) {
    println!("\n{:4} {:55} {:>8} {:>8} {:>6}", "hook", "packet", "ns", "more", "times");
    for row in rows {
        let time = fastest(&row.samples);
        let floor = row.beside.floor.map_or(0.0, |floor| fastest(&rows[floor].samples));
        print!("{:4} {:55} {:8.1}", row.hook.name(), row.what, time - floor);
        if let Some(unwatched) = row.beside.unwatched {
            let unwatched = fastest(&rows[unwatched].samples);
            print!(" {:8.1} {:6.2}", time - unwatched, (time - floor) / (unwatched - floor));
        }
        println!();
    }
}
