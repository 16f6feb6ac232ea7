//! The table of decision cases; the suite `decision_cases` runs it in the kernel too.

use firewall_ebpf::interface::Orientation;
use secgroup_tests::decision::{Host, Setup, cases, run};

#[test]
fn every_case_holds_on_the_host() {
    for setup in Setup::variants(Orientation::Host) {
        let cases = cases::of(&setup);
        let packets = run(&cases, &mut [&mut Host::of(&setup)]);
        println!("{} cases, {packets} packets on the host", cases.len());
    }
}
