//! The bench beside peers: every generated packet is counted at its end, and every figure is in the
//! report.

use std::time::Duration;

use secgroup_tests::bench::measure::pin_to_one_cpu;
use secgroup_tests::peers::firewall::{Firewall, Subject};
use secgroup_tests::peers::generator::{Traffic, object};
use secgroup_tests::peers::measure::{Effort, Lab};
use secgroup_tests::peers::metric::Metric;
use secgroup_tests::peers::results::Results;
use secgroup_tests::peers::rules::Rules;
use secgroup_tests::peers::target::targets;
use secgroup_tests::peers::{chart, report};

/// More packets than the queue of a socket holds.
const PACKETS: u32 = 3000;
const EFFORT: Effort =
    Effort { packets: Duration::from_millis(2), connections: 20, round_trips: 20, stream: 1 };

// One test, because the receiver is found by its device's name, which every subject shares.
#[test]
fn every_generated_packet_is_counted_and_every_figure_is_reported() {
    pin_to_one_cpu().unwrap();
    let mut results = Results::default();
    for subject in Subject::present() {
        let is_small = subject.rules.is_none_or(|rules| rules == Rules::Each(1));
        let is_rule_set = subject.rules == Some(Rules::SET) && subject.firewall != Firewall::Tcx;
        let is_blocked = matches!(subject.rules, Some(Rules::Blocked(1 | 1000)));
        if !is_small && !is_rule_set && !is_blocked {
            continue;
        }
        let lab = Lab::new(subject, &object());
        if Metric::Dropped.is_of(subject) && subject.firewall != Firewall::Nothing {
            assert_eq!(
                lab.count(Traffic::Unmatched, PACKETS),
                u64::from(PACKETS),
                "{subject} drops"
            );
        }
        if Metric::Established.is_of(subject) {
            lab.establish();
            let dropped = lab.dropped();
            lab.fill();
            assert_eq!(
                lab.count(Traffic::Established, PACKETS),
                u64::from(PACKETS),
                "{subject} passes"
            );
            assert_eq!(lab.dropped(), dropped, "{subject} drops no packet of a flow");
        }
        if is_small {
            for metric in Metric::ALL.into_iter().filter(|metric| metric.is_of(subject)) {
                let figure = lab.measure(metric, &EFFORT);
                assert!(figure.is_finite() && figure > 0.0, "{subject}: {metric:?} is {figure}");
                results.add(metric, subject, figure);
            }
        }
    }
    assert_eq!(targets(&results).len(), 12);
    let (page, figure) = (report::page(&results, 1), chart::draw(&results));
    for subject in Subject::all().iter().filter(|subject| subject.rules.is_none()) {
        assert!(page.contains(&format!("| {subject} | ")), "{subject} is not in\n{page}");
        assert!(figure.contains(&format!(">{subject}</text>")), "{subject} is not in\n{figure}");
    }
}
