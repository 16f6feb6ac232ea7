//! Rows of a result that are measured in rounds.

use super::measure::Hook;

/// One row of the result.
#[derive(Debug)]
pub struct Row<B> {
    pub(super) hook: Hook,
    pub(super) what: String,
    /// Nanoseconds, including the overhead of the test run.
    pub(super) samples: Vec<f64>,
    /// The rows that it is compared with, by index.
    pub(super) beside: B,
}

/// The rows so far.
pub(super) struct Rows<B>(pub(super) Vec<Row<B>>);

impl<B> Rows<B> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the samples of a round to a row; returns its index.
    pub(super) fn add(&mut self, hook: Hook, what: String, samples: Vec<f64>, beside: B) -> usize {
        let same = |row: &Row<B>| row.hook == hook && row.what == what;
        let index = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(Row { hook, what, samples: Vec::new(), beside });
            self.0.len() - 1
        });
        self.0[index].samples.extend(samples);
        index
    }
}
