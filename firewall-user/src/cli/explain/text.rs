//! An explanation for people.

use std::fmt::Write as _;

use super::super::table::{Column, table};
use crate::observe::explain::Explanation;

/// Width of the first column.
const LABEL: usize = 12;

/// The explanation of one packet.
pub(super) fn text(found: &Explanation) -> String {
    let mut out = String::new();
    for (label, text) in found.lines() {
        // A string takes everything.
        let _ = writeln!(out, "{label:<LABEL$}{text}");
    }
    out
}

/// A line for each packet.
pub(super) fn lines(all: &[Explanation]) -> anyhow::Result<()> {
    let rows = all.iter().map(|found| {
        let rule = match (&found.rule, &found.entry, &found.nearest_miss) {
            (Some(rule), ..) => rule.security_group_rule_id.clone(),
            (_, Some(entry), _) => entry.name.clone(),
            (_, _, Some(nearest)) => {
                format!("nearest {} ({})", nearest.rule.security_group_rule_id, nearest.field)
            }
            _ => "-".to_owned(),
        };
        let number = found.number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        [number, found.verdict.to_owned(), found.reason.to_owned(), found.packet.text.clone(), rule]
    });
    table(
        [
            Column::number("PACKET"),
            Column::text("VERDICT"),
            Column::text("REASON"),
            Column::text("TEXT"),
            Column::text("DECIDED BY").dropped(1),
        ],
        rows,
    )
}
