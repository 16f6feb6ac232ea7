//! Tables in Markdown.

/// A row of a table.
pub(crate) fn row<const N: usize>(cells: [impl AsRef<str>; N]) -> String {
    let cells = cells.map(|cell| cell.as_ref().replace('|', "\\|").replace('\n', " "));
    format!("| {} |\n", cells.join(" | "))
}

/// The line under the header of a table.
pub(crate) fn rule(columns: usize) -> String {
    format!("|{}\n", " --- |".repeat(columns))
}

/// The anchor of a heading.
pub(crate) fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}

/// A text as a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', ':']) { "" } else { "." };
    format!("{text}{end}")
}
