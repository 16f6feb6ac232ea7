//! Numbers and histories in a few characters.

/// From nothing to the most.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 9] = [' ', '.', ':', '-', '=', '+', '*', '%', '#'];

/// `999`, `1.2k`, `34k`, `5.6M`: at most five characters, rounded down.
pub(super) fn number(value: u64) -> String {
    if value < 1000 {
        return value.to_string();
    }
    let mut unit = 1;
    let mut name = ' ';
    for next in ['k', 'M', 'G', 'T', 'P', 'E'] {
        if value / unit < 1000 {
            break;
        }
        unit *= 1000;
        name = next;
    }
    let whole = value / unit;
    if whole < 10 {
        format!("{whole}.{}{name}", value / (unit / 10) % 10)
    } else {
        format!("{whole}{name}")
    }
}

/// Bytes per second as bits per second.
pub(super) fn bits(bytes: u64) -> String {
    format!("{}b", number(bytes.saturating_mul(8)))
}

/// The newest values of a history, each a character; the highest of them is a full block.
pub(super) fn spark(
    history: impl DoubleEndedIterator<Item = u64> + Clone,
    width: usize,
    unicode: bool,
) -> String {
    let newest = history.rev().take(width);
    let most = newest.clone().max().unwrap_or_default().max(1);
    let steps = if unicode { BLOCKS } else { ASCII };
    let step = |value: u64| {
        // What is not zero is never shown as nothing.
        let step = (u128::from(value) * 8).div_ceil(u128::from(most));
        steps[usize::try_from(step).unwrap_or_default().min(8)]
    };
    let characters: Vec<char> = newest.map(step).collect();
    characters.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_five_characters_at_most() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (1299, "1.2k"),
            (34_567, "34k"),
            (999_999, "999k"),
            (1_000_000, "1.0M"),
            (u64::MAX, "18E"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(bits(125), "1.0kb");
    }

    #[test]
    fn the_highest_value_is_a_full_block() {
        assert_eq!(spark([0, 1, 4, 8].into_iter(), 10, true), " ▁▄█");
        assert_eq!(spark([0, 1, 4, 8].into_iter(), 2, false), "=#");
        assert_eq!(spark([0, 0].into_iter(), 10, true), "  ");
        assert_eq!(spark([1, u64::MAX].into_iter(), 10, true), "▁█");
        assert_eq!(spark([].into_iter(), 10, true), "");
    }
}
