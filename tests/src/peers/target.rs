//! What secgroup is to reach beside its peers.

use super::firewall::{Firewall, Subject};
use super::metric::Metric;
use super::results::{Results, Spread};
use super::rules::Rules;

/// A wish, and what came of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is compared.
    pub what: String,
    /// How many times as fast at least.
    pub wanted: f64,
    /// How many times as fast.
    pub measured: Spread,
    /// How many times as fast an XDP program is that only passes, where secgroup is one that
    /// passes.
    pub bare: Option<f64>,
}

impl Target {
    /// Whether the median reaches it, in the digits that are printed.
    #[must_use]
    pub fn is_met(&self) -> bool {
        (self.measured.median * 100.0).round() >= self.wanted * 100.0
    }
}

/// All of them.
#[must_use]
pub fn targets(results: &Results) -> Vec<Target> {
    let of = |firewall| Subject::v4(firewall, Some(Rules::Each(1)));
    let nothing = Subject::v4(Firewall::Nothing, None);
    let mut targets = Vec::new();
    let mut add = |what: String, wanted: f64, measured: Option<Spread>, bare: Option<f64>| {
        targets.extend(measured.map(|measured| Target { what, wanted, measured, bare }));
    };
    let xdp = of(Firewall::Xdp);
    let refused = results.speed(Metric::Dropped, xdp, xdp.peer());
    add("a flood refused at xdp, beside nftables, 1 rule".to_owned(), 5.0, refused, None);
    let throughput = results.speed(Metric::Throughput, of(Firewall::Tcx), nothing);
    add("TCP throughput at the hook auto (tcx), beside nothing".to_owned(), 0.95, throughput, None);
    for firewall in [Firewall::Tcx, Firewall::Xdp] {
        for metric in Metric::ALL {
            // The one that is worst off.
            let subjects = Rules::ALL.map(|rules| Subject::v4(firewall, Some(rules)));
            let speeds = subjects.into_iter().filter_map(|subject| {
                Some((subject, results.speed(metric, subject, subject.peer())?))
            });
            let least = speeds.min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
            if let Some((subject, measured)) = least {
                let what = format!("{}: {subject}, beside nftables", metric.title());
                let pass = Subject::v4(Firewall::XdpPass, None);
                let bare = results.speed(metric, pass, subject.peer());
                let bare = bare.filter(|_| firewall == Firewall::Xdp).map(|speed| speed.median);
                add(what, 1.0, Some(measured), bare);
            }
        }
    }
    targets
}
