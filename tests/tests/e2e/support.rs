//! Helpers that several tests use.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

use secgroup_tests::Secgroup;
use secgroup_tests::udp;
use secgroup_tests::wait::{MAX_WAIT, wait_until};

/// The state of the first attached interface, as `status` reports it.
pub(crate) fn interface_state(secgroup: &Secgroup<'_>) -> String {
    let status = secgroup.status();
    status["NetworkInterfaces"][0]["State"].as_str().unwrap().to_owned()
}

/// The value of a series in a text of metrics; the series is named with its labels as written.
pub(crate) fn metric(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    line.parse().unwrap_or_else(|error| panic!("{series} {line}: {error}"))
}

/// The number of flows that a filter of `flows count` selects.
pub(crate) fn count_flows(secgroup: &Secgroup<'_>, filter: &str) -> u64 {
    secgroup.json(&format!("flows count {filter}"))["Count"].as_u64().unwrap()
}

/// Exchanges datagrams with echo servers over every socket, until all of the flows are proven: a packet of
/// the initiator has followed a reply at least 2 s after the flow began. Returns how often.
pub(crate) fn exchange_until_proven(secgroup: &Secgroup<'_>, sockets: &[UdpSocket]) -> u64 {
    let proven = || count_flows(secgroup, "--protocol udp --tier proven");
    let expected = proven() + u64::try_from(sockets.len()).unwrap();
    let mut times = 0;
    wait_until(MAX_WAIT, "UDP flows to be proven", || {
        assert!(sockets.iter().all(|socket| udp::is_echoed(socket, MAX_WAIT)));
        times += 1;
        proven() == expected
    });
    times
}

/// Stops the threads that poll a flag when it is dropped, so also when the test panics.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
