//! Printing: a table for people, JSON for programs.

use std::io::{self, BufWriter, StdoutLock, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::model::document::Document;

/// `--output`, of every command that reads.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: AWS' documents where AWS has one
    Json,
}

/// Standard output. `println!` would panic when the reader has gone.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Prints lines.
pub(crate) fn lines(lines: impl IntoIterator<Item = impl std::fmt::Display>) -> Result<()> {
    let mut out = stdout();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Prints a document.
pub(crate) fn json(document: &Document) -> Result<()> {
    let mut out = stdout();
    document.write(&mut out)?;
    Ok(out.flush()?)
}

/// The version of the documents that are not AWS', which a reader can rely on.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// Prints a document of ours.
pub(crate) fn value(value: &serde_json::Value) -> Result<()> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Rows under a header, without borders. The columns named in `numbers` are flush right.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    numbers: &[&str],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{}", text(header, numbers, rows))?;
    Ok(out.flush()?)
}

fn text<const N: usize>(
    header: [&str; N],
    numbers: &[&str],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.map(Cell::new));
    table.add_rows(rows.into_iter().map(|row| row.map(Cell::new)));
    for (index, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if numbers.contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

/// A cell for what may be empty, so that every row has as many words as it has columns.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_in_no_space() {
        let rows = [["a", "1", ""], ["longer", "10", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            text(["NAME", "RULES", "WHY"], &["RULES"], rows),
            "NAME    RULES  WHY\na           1\nlonger     10  x"
        );
    }
}
