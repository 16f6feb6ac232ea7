//! The performance targets of secgroup compared with its peers.

use super::firewall::{Firewall, Subject};
use super::metric::Metric;
use super::results::{Results, Spread};
use super::rules::Rules;

/// A target and its measured value.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is compared.
    pub what: String,
    /// The minimal speed as a multiple.
    pub required: f64,
    /// The measured speed as a multiple.
    pub measured: Spread,
    /// The speed of an XDP program that only passes, if the subject is secgroup with XDP.
    pub bare: Option<f64>,
}

impl Target {
    /// Whether the median, rounded as printed, reaches it.
    #[must_use]
    pub fn is_met(&self) -> bool {
        (self.measured.median * 100.0).round() >= self.required * 100.0
    }
}

/// All targets.
#[must_use]
pub fn targets(results: &Results) -> Vec<Target> {
    let of = |firewall| Subject::v4(firewall, Some(Rules::Each(1)));
    let nothing = Subject::v4(Firewall::Nothing, None);
    let mut targets = Vec::new();
    let mut add = |what: String, required: f64, measured: Option<Spread>, bare: Option<f64>| {
        targets.extend(measured.map(|measured| Target { what, required, measured, bare }));
    };
    let xdp = of(Firewall::Xdp);
    let flood = results.speed(Metric::Dropped, xdp, xdp.peer());
    add("a flood dropped at xdp, compared with nftables, 1 rule".to_owned(), 5.0, flood, None);
    let throughput = results.speed(Metric::Throughput, of(Firewall::Tcx), nothing);
    add(
        "TCP throughput with the hook auto (tcx), compared with nothing".to_owned(),
        0.95,
        throughput,
        None,
    );
    for firewall in [Firewall::Tcx, Firewall::Xdp] {
        for metric in Metric::ALL {
            // The number of rules with the lowest speed.
            let subjects = Rules::ALL.map(|rules| Subject::v4(firewall, Some(rules)));
            let speeds = subjects.into_iter().filter_map(|subject| {
                Some((subject, results.speed(metric, subject, subject.peer())?))
            });
            let least = speeds.min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
            if let Some((subject, measured)) = least {
                let what = format!("{}: {subject}, compared with nftables", metric.title());
                let pass = Subject::v4(Firewall::XdpPass, None);
                let bare = results.speed(metric, pass, subject.peer());
                let bare = bare.filter(|_| firewall == Firewall::Xdp).map(|speed| speed.median);
                add(what, 1.0, Some(measured), bare);
            }
        }
    }
    targets
}
