//! The measured figures by round.

use std::collections::BTreeMap;

use super::firewall::Subject;
use super::metric::Metric;

/// Figures by metric and subject, one per round.
#[derive(Clone, Debug, Default)]
pub struct Results {
    samples: BTreeMap<(Metric, Subject), Vec<f64>>,
}

/// The quartiles of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The first quartile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The third quartile.
    pub high: f64,
}

impl Spread {
    /// The quartiles of figures in any order; `None` without figures.
    #[must_use]
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        let quarter = |number: usize| {
            // Linear interpolation between two figures.
            let (index, rest) = (last * number / 4, last * number % 4);
            let next = figures[(index + 1).min(last)];
            figures[index] + (next - figures[index]) * rest as f64 / 4.0
        };
        Some(Self { low: quarter(1), median: quarter(2), high: quarter(3) })
    }
}

impl Results {
    /// Adds the figure of a round.
    pub fn add(&mut self, metric: Metric, subject: Subject, figure: f64) {
        self.samples.entry((metric, subject)).or_default().push(figure);
    }

    /// The figures of a subject, if it was measured.
    #[must_use]
    pub fn spread(&self, metric: Metric, subject: Subject) -> Option<Spread> {
        Spread::of(self.samples.get(&(metric, subject))?.clone())
    }

    /// The speed of a subject as a multiple of another's, by round.
    #[must_use]
    pub fn speed(&self, metric: Metric, subject: Subject, other: Subject) -> Option<Spread> {
        let own = self.samples.get(&(metric, subject))?;
        let others = self.samples.get(&(metric, other))?;
        Spread::of(own.iter().zip(others).map(|(one, other)| metric.speed(*one, *other)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Metric, Results, Spread};
    use crate::peers::firewall::Subject;

    #[test]
    fn quartiles_are_interpolated_between_figures() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![7.0]), Some(Spread { low: 7.0, median: 7.0, high: 7.0 }));
        let four = Spread::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(four, Some(Spread { low: 1.75, median: 2.5, high: 3.25 }));
    }

    #[test]
    fn a_faster_subject_has_a_larger_speed() {
        let [one, other] = [0, 1].map(|place| Subject::all()[place]);
        let mut results = Results::default();
        for (metric, better, worse) in [(Metric::Dropped, 2.0, 6.0), (Metric::Throughput, 6.0, 2.0)]
        {
            results.add(metric, one, better);
            results.add(metric, other, worse);
            assert_eq!(results.speed(metric, one, other).unwrap().median, 3.0);
        }
    }
}
