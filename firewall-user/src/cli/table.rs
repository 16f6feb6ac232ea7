//! Tables for people: no wider than the terminal, and elsewhere than [`DEFAULT_WIDTH`].

use std::io::{Write as _, stdout};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets};

use super::output;

/// Characters in a line where standard output is no terminal.
const DEFAULT_WIDTH: usize = 100;

/// Spaces between two columns.
const GAP: u16 = 2;

/// The minimum width of a cut column.
const MIN_CUT: usize = 8;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    header: &'static str,
    alignment: CellAlignment,
    /// Columns with lower numbers are left out first; `None`: never.
    drop: Option<u8>,
    /// Whether it is there at all.
    shown: bool,
}

impl Column {
    /// Aligned left.
    pub(crate) const fn text(header: &'static str) -> Self {
        Self { header, alignment: CellAlignment::Left, drop: None, shown: true }
    }

    /// Aligned right.
    pub(crate) const fn number(header: &'static str) -> Self {
        Self { header, alignment: CellAlignment::Right, drop: None, shown: true }
    }

    /// A column that is there only under a condition.
    pub(crate) const fn only_if(self, shown: bool) -> Self {
        Self { shown, ..self }
    }

    /// A column that is left out, the `order`th of all, where the table is too wide.
    pub(crate) const fn dropped(self, order: u8) -> Self {
        Self { drop: Some(order), ..self }
    }
}

/// Prints rows under a header, without borders.
pub(crate) fn table<const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<()> {
    let mut out = output::stdout();
    writeln!(out, "{}", text(columns, rows.into_iter().collect(), width()))?;
    Ok(out.flush()?)
}

/// That of the terminal, however wide it is.
fn width() -> usize {
    // `terminal_size` would ask standard error, too, and standard output may be a file.
    let terminal = terminal_size::terminal_size_of(stdout());
    terminal.map_or(DEFAULT_WIDTH, |(width, _)| width.0.into())
}

/// The table in lines of at most `limit` characters.
pub(super) fn text<const N: usize>(
    columns: [Column; N],
    rows: Vec<[String; N]>,
    limit: usize,
) -> String {
    let mut widths = columns.map(|column| column.header.len());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let widths = fit(&columns, widths, limit);
    let shown = |index: &usize| widths[*index].is_some();
    let indices: Vec<_> = (0..N).filter(shown).collect();
    let cell = |row: &[String; N], index: usize| {
        Cell::new(cut(&row[index], widths[index].unwrap_or_default()))
    };
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(indices.iter().map(|index| columns[*index].header))
        .add_rows(rows.iter().map(|row| indices.iter().map(|index| cell(row, *index))));
    for (column, index) in table.column_iter_mut().zip(&indices) {
        column.set_padding((0, GAP)).set_cell_alignment(columns[*index].alignment);
    }
    table.trim_fmt()
}

/// The width of each column, `None` for one that is left out. Columns to drop are left out first, in
/// their order; if the others are still too wide, the widest is cut, and then the next.
fn fit<const N: usize>(
    columns: &[Column; N],
    widths: [usize; N],
    limit: usize,
) -> [Option<usize>; N] {
    let mut widths = widths.map(Some);
    for (width, _) in widths.iter_mut().zip(columns).filter(|(_, column)| !column.shown) {
        *width = None;
    }
    let overflow = |widths: &[Option<usize>; N]| {
        let all = widths.iter().flatten().map(|width| width + usize::from(GAP)).sum::<usize>();
        all.saturating_sub(limit + usize::from(GAP))
    };
    let mut droppable: Vec<_> =
        (0..N).filter_map(|index| Some((columns[index].drop?, index))).collect();
    droppable.sort_unstable();
    for (_, index) in droppable {
        if overflow(&widths) == 0 {
            break;
        }
        widths[index] = None;
    }
    loop {
        let excess = overflow(&widths);
        match widths.iter_mut().flatten().max() {
            Some(widest) if excess > 0 && *widest > MIN_CUT => {
                *widest = widest.saturating_sub(excess).max(MIN_CUT);
            }
            _ => return widths,
        }
    }
}

/// Cuts a cell. Characters are counted, because those of ids, names, devices and addresses have width 1.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("NAME"),
        Column::number("RULES").dropped(2),
        Column::text("WHY").dropped(1),
        Column::text("PEER"),
    ];

    fn print(rows: &[[&str; 4]], limit: usize) -> String {
        text(COLUMNS, rows.iter().map(|row| row.map(str::to_owned)).collect(), limit)
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let rows = [["a", "1", "", "x"], ["longer", "10", "y", ""]];
        assert_eq!(
            print(&rows, 100),
            "NAME    RULES  WHY  PEER\na           1       x\nlonger     10  y"
        );
    }

    #[test]
    fn columns_are_dropped_in_their_order_and_no_more_than_needed() {
        let rows = [["web", "10", "because", "10.0.0.0/8"]];
        assert_eq!(print(&rows, 32).lines().next().unwrap(), "NAME  RULES  WHY      PEER");
        assert_eq!(print(&rows, 31), "NAME  RULES  PEER\nweb      10  10.0.0.0/8");
        assert_eq!(print(&rows, 22), "NAME  PEER\nweb   10.0.0.0/8");
    }

    #[test]
    fn what_stays_is_cut_and_never_wraps() {
        let name = "n".repeat(255);
        let peer = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535";
        let rows = [[name.as_str(), "10", "because", peer]];
        for limit in [24, 40, 80, 100] {
            let text = print(&rows, limit);
            assert_eq!(text.lines().count(), 2, "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= limit, "{limit}: {line}");
            }
        }
        assert!(print(&rows, 100).ends_with(&format!("n…  {peer}")));
    }
}
