//! The table of decision cases; the suite `decision_cases` runs it in the kernel too.

use firewall_ebpf::abi::interface::Orientation;
use secgroup_tests::decision::{Host, Port, Setup, cases, run};

#[test]
fn every_case_holds_on_the_host() {
    let setups = Setup::variants(Orientation::Host);
    for setup in setups.into_iter().chain(Setup::ports(Orientation::Guest)) {
        let cases = cases::of(&setup);
        let packets = run(&cases, &mut [&mut Host::of(&setup)]);
        println!("{} cases, {packets} packets on the host", cases.len());
    }
}

#[test]
fn checks_of_addresses_change_nothing_for_a_guest_that_uses_its_own() {
    let mut count = 0;
    for setup in Setup::variants(Orientation::Guest) {
        let cases = cases::of_own_addresses(&setup);
        count += cases.len();
        run(&cases, &mut [&mut Host::of(&Setup { port: Port::Router, ..setup })]);
    }
    assert!(count > 100, "{count} cases");
}
