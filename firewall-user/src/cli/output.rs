//! Printing: lines for people, JSON for programs.

use std::env;
use std::io::{self, BufWriter, StdoutLock, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::model::canonicalised;
use crate::model::document::Document;

/// `--output`, of every command that reads.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Table; leaves out columns that do not fit into the terminal, or where it is none into 100 characters
    Table,
    /// JSON with every field, in the form of AWS where AWS has one
    Json,
}

/// Standard output. `println!` panics when the reader has closed it.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// NO_COLOR (no-color.org) and terminals that have none.
pub(crate) fn has_colours() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints lines.
pub(crate) fn lines(lines: impl IntoIterator<Item = impl std::fmt::Display>) -> Result<()> {
    let mut out = stdout();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Prints a remark about a command that succeeds to standard error, on one line.
pub(crate) fn note(text: &str) {
    eprintln!("secgroup: {}", super::failure::one_line(text));
}

/// Says which networks have host bits and were stored without them, as in EC2.
pub(crate) fn note_networks(words: &[String]) {
    for word in words {
        if let Some(network) = canonicalised(word) {
            note(&format!("{word} was stored as {network}"));
        }
    }
}

/// Prints a document in the form of the AWS CLI.
pub(crate) fn json(document: &Document) -> Result<()> {
    let mut out = stdout();
    document.write(&mut out)?;
    Ok(out.flush()?)
}

/// Prints another document.
pub(crate) fn value(value: &impl Serialize) -> Result<()> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Prints another document in one line.
pub(crate) fn compact(value: &impl Serialize) -> Result<()> {
    let mut out = stdout();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// The text of a cell that may be empty: every row of a table has as many words as columns.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// How many of something: `1 flow`, `2 flows`.
pub(super) fn many(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// In KiB, or in MiB with one decimal.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{} KiB", bytes.div_ceil(1 << 10));
    }
    let tenths = (u128::from(bytes) * 10 + (1 << 19)) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Seconds as one number and unit, as `3m` or `2d`: the columns are narrow.
pub(super) fn short_time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_printed_in_kibibytes_or_mebibytes() {
        for (bytes, text) in [
            (0, "0 KiB"),
            (1, "1 KiB"),
            (24_680, "25 KiB"),
            ((1 << 20) - 1, "1024 KiB"),
            (1 << 20, "1.0 MiB"),
            (23_068_672, "22.0 MiB"),
            (1_625_292, "1.5 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
