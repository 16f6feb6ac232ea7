//! The figures, for people and for programs.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::subject::{Cell, Collection, DEAD};

/// What a cell comes to, net of the harness.
struct Figures {
    /// The mean of the fastest quarter: what the code costs where nothing disturbs it.
    least: f64,
    /// The middle one.
    median: f64,
    /// `least` as a multiple of the minimal program's.
    ratio: Option<f64>,
}

fn sorted(cell: &Cell) -> Vec<f64> {
    let mut sorted = cell.samples.clone();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// A sample is in whole nanoseconds; the mean of many is finer.
fn least(cell: &Cell) -> f64 {
    let mut fastest = sorted(cell);
    fastest.truncate(fastest.len().div_ceil(4));
    let count = u32::try_from(fastest.len()).unwrap_or(u32::MAX);
    fastest.iter().sum::<f64>() / f64::from(count)
}

fn median(cell: &Cell) -> f64 {
    let sorted = sorted(cell);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn figures(cells: &[Cell], cell: &Cell) -> Figures {
    let of = |figure: fn(&Cell) -> f64, cell: &Cell| {
        figure(cell) - cell.floor.map_or(0.0, |floor| figure(&cells[floor]))
    };
    let ratio = cell.minimal.map(|minimal| of(least, cell) / of(least, &cells[minimal]));
    Figures { least: of(least, cell), median: of(median, cell), ratio }
}

/// A table, in the order of measuring.
///
/// # Errors
/// Standard output cannot be written.
pub fn table(cells: &[Cell], collection: Collection) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "nanoseconds per packet, net of an empty program: the fastest quarter, and the middle"
    )?;
    writeln!(
        out,
        "{:4}  {:38} {:>6} {:>8} {:>8} {:>10}",
        "HOOK", "PACKET", "RULES", "FASTEST", "MIDDLE", "X MINIMAL"
    )?;
    for cell in cells {
        let Figures { least, median, ratio } = figures(cells, cell);
        let rules = cell.rules.map_or_else(String::new, |rules| rules.to_string());
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        writeln!(
            out,
            "{:4}  {:38} {rules:>6} {least:>8.1} {median:>8.0} {ratio:>10}",
            cell.hook.name(),
            cell.what
        )?;
    }
    let Collection { reading, removing } = collection;
    let [reading, removing] = [reading, removing].map(|seconds| seconds * 1000.0);
    writeln!(
        out,
        "gc of {DEAD} dead flows: {reading:.0} ms to read the tables, {removing:.0} ms to remove them"
    )?;
    Ok(())
}

/// The same as JSON.
///
/// # Errors
/// Standard output cannot be written.
pub fn json(cells: &[Cell], collection: Collection) -> Result<()> {
    let rows: Vec<_> = cells
        .iter()
        .map(|cell| {
            let Figures { least, median, ratio } = figures(cells, cell);
            json!({
                "Hook": cell.hook.name(),
                "Packet": cell.what,
                "Rules": cell.rules,
                "FastestNanoseconds": least,
                "MiddleNanoseconds": median,
                "RatioToMinimal": ratio,
            })
        })
        .collect();
    let mut out = std::io::stdout().lock();
    let collection = json!({
        "DeadFlows": DEAD,
        "ReadingSeconds": collection.reading,
        "RemovingSeconds": collection.removing,
    });
    let document = json!({ "SchemaVersion": 1, "Cells": rows, "Collection": collection });
    serde_json::to_writer_pretty(&mut out, &document)?;
    writeln!(out)?;
    Ok(())
}
