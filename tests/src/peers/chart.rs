//! The figures as a bar chart in SVG, with a panel for each metric.

use std::fmt::Write as _;

use super::firewall::{Firewall, Subject};
use super::metric::Metric;
use super::results::{Results, Spread};

// In pixels.
const WIDTH: f64 = 920.0;
/// The left end of the bars; names are left of it.
const LEFT: f64 = 190.0;
/// The right end of the scale; figures are right of the bars.
const RIGHT: f64 = 730.0;
const ROW: f64 = 18.0;
const BAR: f64 = 12.0;
/// The height of a panel's title and scale.
const HEAD: f64 = 46.0;
const GAP: f64 = 18.0;

/// Draws all panels.
#[must_use]
pub fn draw(results: &Results) -> String {
    let mut body = String::new();
    let mut top = GAP;
    for metric in Metric::ALL {
        top = panel(&mut body, results, metric, top) + GAP;
    }
    legend(&mut body, top);
    let height = top + ROW + GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" \
         fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Draws the panel of a metric from `top` on; returns its lower end.
fn panel(out: &mut String, results: &Results, metric: Metric, top: f64) -> f64 {
    let measured = |subject| Some((subject, results.spread(metric, subject)?));
    let rows: Vec<(Subject, Spread)> = Subject::all().into_iter().filter_map(measured).collect();
    let scale = Scale::over(&rows);
    let (title, unit) = (metric.title(), metric.unit());
    let kind = if scale.is_logarithmic { " (logarithmic)" } else { "" };
    let _ = writeln!(
        out,
        "<text x=\"{GAP}\" y=\"{}\" font-size=\"15\" font-weight=\"bold\">{title}\
         <tspan font-size=\"12\" font-weight=\"normal\" dx=\"8\">{unit}{kind}</tspan></text>",
        top + 14.0
    );
    let first = top + HEAD;
    let end = first + ROW * rows.len() as f64;
    for tick in scale.ticks() {
        let x = scale.place(tick);
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {first}V{end}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{tick}</text>",
            first - 6.0
        );
    }
    for (number, (subject, spread)) in rows.iter().enumerate() {
        let y = first + ROW * number as f64;
        let speed = results.speed(metric, *subject, subject.peer());
        bar(out, &scale, metric, *subject, *spread, speed, y);
    }
    end
}

fn bar(
    out: &mut String,
    scale: &Scale,
    metric: Metric,
    subject: Subject,
    spread: Spread,
    speed: Option<Spread>,
    y: f64,
) {
    let [low, median, high] = [spread.low, spread.median, spread.high].map(|at| scale.place(at));
    let (middle, baseline) = (y + ROW / 2.0, y + ROW / 2.0 + 4.0);
    let digits = metric.digits();
    let speed = speed
        .filter(|_| subject != subject.peer())
        .map_or_else(String::new, |speed| format!(" · {:.2} × nftables", speed.median));
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{subject}</text>\
         <rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>\
         <path d=\"M{low:.1} {middle}H{high:.1}\" stroke=\"#222\" stroke-width=\"1.5\"/>\
         <text x=\"{:.1}\" y=\"{baseline}\">{:.digits$}{speed}</text>",
        LEFT - 8.0,
        y + (ROW - BAR) / 2.0,
        (median - LEFT).max(1.0),
        colour(subject.firewall),
        median.max(high) + 6.0,
        spread.median,
    );
}

const fn colour(firewall: Firewall) -> &'static str {
    match firewall {
        Firewall::XdpDrop | Firewall::XdpPass => "#cccccc",
        Firewall::Nothing => "#999999",
        Firewall::Xdp => "#0b6fa4",
        Firewall::Tcx => "#5fb3dc",
        Firewall::Nftables => "#e08a1e",
        Firewall::IptablesNft => "#d9655b",
        Firewall::IptablesLegacy => "#a15c9e",
    }
}

fn legend(out: &mut String, top: f64) {
    let mut x = GAP;
    for firewall in Firewall::ALL {
        let name = firewall.name();
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{top}\" width=\"{BAR}\" height=\"{BAR}\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            colour(firewall),
            x + BAR + 5.0,
            top + 10.0
        );
        // The approximate width of the text.
        x += BAR + 18.0 + 6.0 * name.len() as f64;
    }
}

/// Maps figures to horizontal positions.
struct Scale {
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// Linear from zero, or logarithmic if the range is large.
    fn over(rows: &[(Subject, Spread)]) -> Self {
        let least = rows.iter().map(|(_, spread)| spread.low).fold(f64::INFINITY, f64::min);
        let most = rows.iter().map(|(_, spread)| spread.high).fold(0.0, f64::max);
        let is_logarithmic = most > 20.0 * least;
        let from = if is_logarithmic { least / 2.0 } else { 0.0 };
        Self { from, to: most, is_logarithmic }
    }

    fn place(&self, figure: f64) -> f64 {
        let part = if self.is_logarithmic {
            (figure / self.from).ln() / (self.to / self.from).ln()
        } else {
            (figure - self.from) / (self.to - self.from)
        };
        LEFT + (RIGHT - LEFT) * part
    }

    /// Round numbers in the range: 1, 2 and 5 times a power of ten, or multiples of one of these.
    fn ticks(&self) -> Vec<f64> {
        let steps = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|one| one * 10_f64.powi(power)));
        if self.is_logarithmic {
            return steps.filter(|tick| (self.from..=self.to).contains(tick)).collect();
        }
        let min_step = self.to / 6.0;
        let step = steps.into_iter().find(|step| *step >= min_step).unwrap_or(self.to);
        (0..=6).map(|number| step * f64::from(number)).filter(|tick| *tick <= self.to).collect()
    }
}
