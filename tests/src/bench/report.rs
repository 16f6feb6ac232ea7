//! The results as a table and as JSON.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::packets::{Cell, EXPIRED, Gc};

/// The figures of a row, without the overhead of the test run.
struct Figures {
    /// The mean of the fastest quarter, which other load on the machine affects least.
    fastest: f64,
    /// The median.
    median: f64,
    /// `fastest` as a multiple of that of the minimal program, or of the floor of a new flow.
    ratio: Option<f64>,
}

fn sorted(cell: &Cell) -> Vec<f64> {
    let mut sorted = cell.samples.clone();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The mean of many samples is finer than one sample, which is in whole nanoseconds.
fn fastest(cell: &Cell) -> f64 {
    let mut samples = sorted(cell);
    samples.truncate(samples.len().div_ceil(4));
    let count = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    samples.iter().sum::<f64>() / f64::from(count)
}

fn median(cell: &Cell) -> f64 {
    let sorted = sorted(cell);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn figures(cells: &[Cell], cell: &Cell) -> Figures {
    let of = |figure: fn(&Cell) -> f64, cell: &Cell| {
        figure(cell) - cell.floor.map_or(0.0, |floor| figure(&cells[floor]))
    };
    let ratio = cell.minimal.map(|minimal| of(fastest, cell) / of(fastest, &cells[minimal]));
    Figures { fastest: of(fastest, cell), median: of(median, cell), ratio }
}

/// Prints a table, in the order of measurement.
///
/// # Errors
/// Standard output cannot be written.
pub fn table(cells: &[Cell], gc: Gc) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "nanoseconds per packet without those of an empty program: mean of the fastest quarter, and median"
    )?;
    writeln!(
        out,
        "{:4}  {:45} {:>6} {:>8} {:>8} {:>10}",
        "HOOK", "PACKET", "RULES", "FASTEST", "MEDIAN", "X LEAST"
    )?;
    for cell in cells {
        let Figures { fastest, median, ratio } = figures(cells, cell);
        let rules = cell.rules.map_or_else(String::new, |rules| rules.to_string());
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        writeln!(
            out,
            "{:4}  {:45} {rules:>6} {fastest:>8.1} {median:>8.0} {ratio:>10}",
            cell.hook.name(),
            cell.what
        )?;
    }
    let Gc { reading, removing } = gc;
    let [reading, removing] = [reading, removing].map(|seconds| seconds * 1000.0);
    writeln!(
        out,
        "gc of {EXPIRED} expired flows: {reading:.0} ms to read the tables, {removing:.0} ms to remove them"
    )?;
    Ok(())
}

/// Prints the same as JSON.
///
/// # Errors
/// Standard output cannot be written.
pub fn json(cells: &[Cell], gc: Gc) -> Result<()> {
    let rows: Vec<_> = cells
        .iter()
        .map(|cell| {
            let Figures { fastest, median, ratio } = figures(cells, cell);
            json!({
                "Hook": cell.hook.name(),
                "Packet": cell.what,
                "Rules": cell.rules,
                "FastestNanoseconds": fastest,
                "MedianNanoseconds": median,
                "RatioToMinimal": ratio,
            })
        })
        .collect();
    let mut out = std::io::stdout().lock();
    let gc = json!({
        "ExpiredFlows": EXPIRED,
        "ReadingSeconds": gc.reading,
        "RemovingSeconds": gc.removing,
    });
    let document = json!({ "SchemaVersion": 1, "Cells": rows, "Gc": gc });
    serde_json::to_writer_pretty(&mut out, &document)?;
    writeln!(out)?;
    Ok(())
}
