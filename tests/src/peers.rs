//! Compares secgroup with no firewall, nftables and iptables: the same packets over the same kind
//! of link, in alternating rounds.

pub mod chart;
pub mod firewall;
pub mod generator;
pub mod measure;
pub mod metric;
mod receiver;
pub mod report;
pub mod results;
pub mod rules;
mod scheduler;
mod stopwatch;
pub mod target;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::firewall::Subject;
use self::measure::{Effort, Lab};
use self::metric::Metric;
use self::results::Results;
use crate::interrupt;

/// Number of rounds; in each, everything is measured once.
const ROUNDS: usize = 9;

const EFFORT: Effort =
    Effort { packets: Duration::from_millis(100), connections: 1500, round_trips: 5000, stream: 1 };

/// Measures, prints the figures, and writes them to `peers.md` and `peers.svg` in a directory. All
/// else that it creates is removed when it returns, also on failure.
///
/// # Errors
/// A signal was received, or a file cannot be written.
pub fn run(object: &Path, directory: &Path) -> Result<()> {
    let results = compare(object)?;
    println!("{}", report::summary(&results));
    for (name, text) in
        [("peers.md", report::page(&results, ROUNDS)), ("peers.svg", chart::draw(&results))]
    {
        let file = directory.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        println!("written: {}", file.display());
    }
    Ok(())
}

fn compare(object: &Path) -> Result<Results> {
    let mut labs = Vec::new();
    for subject in Subject::present() {
        interrupt::check()?;
        labs.push(Lab::new(subject, object));
        eprint!("\rset up {}", labs.len());
    }
    let mut results = Results::default();
    for round in 1..=ROUNDS {
        for metric in Metric::ALL {
            // All subjects of a metric in close succession, because they are compared.
            for lab in labs.iter().filter(|lab| metric.is_of(lab.subject)) {
                interrupt::check()?;
                let (title, name) = (metric.title(), lab.subject.to_string());
                eprint!("\rround {round} of {ROUNDS}: {title:20} {name:30}");
                results.add(metric, lab.subject, lab.measure(metric, &EFFORT));
            }
        }
    }
    eprintln!();
    Ok(results)
}
