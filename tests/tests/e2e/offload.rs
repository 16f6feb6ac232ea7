//! TCP segments of up to 64 KB, made by offload: their packets and bytes are counted.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secgroup_tests::socket::{Offload, set_offload};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::wait_for_quiet;
use secgroup_tests::{Pair, Secgroup};
use serde_json::Value;

/// Bytes each way.
const BULK: u32 = 16 << 20;

/// Packets and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    packets: u64,
    bytes: u64,
}

impl Amount {
    fn since(self, earlier: Self) -> Self {
        Self { packets: self.packets - earlier.packets, bytes: self.bytes - earlier.bytes }
    }
}

/// Bytes of the headers of Ethernet, IP, and TCP with timestamps.
fn headers(of: IpAddr) -> u64 {
    14 + if of.is_ipv4() { 20 } else { 40 } + 32
}

#[test]
fn segments_of_64_kb_are_counted_like_the_device_counts_them() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    attach_with_http_rule(&secgroup);
    for end in Pair::SERVER {
        for ([counted, device], direction) in
            transfer(&net, &secgroup, end).into_iter().zip(["in", "out"])
        {
            assert_eq!(counted, device, "{end}: {direction}");
            // RSTs have no timestamps.
            let least = u64::from(BULK) + counted.packets * headers(end) - 100;
            assert!(counted.bytes > least, "{end}: {direction}: {counted:?}, expected {least}");
            assert!(
                counted.bytes / counted.packets > 4000,
                "{end}: {direction}: {counted:?}: no offload"
            );
        }
    }
}

/// Receive offload merges several frames into one packet, and removes the headers of all but the
/// first.
#[test]
fn merged_segments_are_counted_with_one_header_each() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    attach_with_http_rule(&secgroup);
    for offload in [Offload::TcpSegmentation, Offload::Segmentation] {
        set_offload(&net.client, Pair::DEVICE, offload, false);
    }
    set_offload(&net.server, Pair::DEVICE, Offload::Receive, true);
    for end in Pair::SERVER {
        let [[counted, device], _] = transfer(&net, &secgroup, end);
        assert!(device.bytes / device.packets < 1515, "{end}: {device:?} has offload");
        assert!(device.packets > 2 * counted.packets, "{end}: {counted:?} of {device:?}");
        // A veth that merges may count bytes without the Ethernet header.
        let removed_headers =
            [0, 14].map(|ethernet| device.bytes + ethernet * device.packets - counted.bytes);
        let merged = device.packets - counted.packets;
        // At least the timestamps, at most selective acknowledgements too.
        let range = merged * headers(end)..=merged * (headers(end) + 28);
        assert!(
            removed_headers.iter().any(|removed_headers| range.contains(removed_headers)),
            "{end}: {counted:?} of {device:?}, expected {range:?}, not {removed_headers:?}"
        );
    }
}

fn attach_with_http_rule(secgroup: &Secgroup<'_>) {
    secgroup.ok("group create web --description x");
    secgroup
        .ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64");
    secgroup.ok(&format!("attach {} --group web --hook tcx", Pair::DEVICE));
}

/// Transfers data both ways; returns the amounts received and sent meanwhile, as counted by
/// secgroup and by the device.
fn transfer(net: &Pair, secgroup: &Secgroup<'_>, end: IpAddr) -> [[Amount; 2]; 2] {
    let now = || {
        let [counted, device] = [counted(secgroup), of_device(net)];
        [0, 1].map(|direction| [counted[direction], device[direction]])
    };
    let wait_until_quiet = || {
        wait_for_quiet(Duration::from_millis(100), "the link to become quiet", || of_device(net));
    };
    wait_until_quiet();
    let before = now();
    {
        let echo = TcpServer::echo(&net.server, SocketAddr::new(end, 80));
        let mut stream = tcp::connect(&net.client, echo.address()).unwrap();
        tcp::exchange(&mut stream, &vec![7; usize::try_from(BULK).unwrap()]).unwrap();
    }
    wait_until_quiet();
    let after = now();
    [0, 1].map(|direction| [0, 1].map(|by| after[direction][by].since(before[direction][by])))
}

/// The sum over all reasons, by direction.
fn counted(secgroup: &Secgroup<'_>) -> [Amount; 2] {
    let stats = secgroup.json("stats");
    let counters = stats["Interfaces"][0]["Counters"].as_array().unwrap();
    ["ingress", "egress"].map(|direction| {
        let of_direction = counters.iter().filter(|counter| counter["Direction"] == direction);
        of_direction.fold(Amount { packets: 0, bytes: 0 }, |sum, counter| {
            let number = |key: &str| counter[key].as_u64().unwrap();
            Amount { packets: sum.packets + number("Packets"), bytes: sum.bytes + number("Bytes") }
        })
    })
}

fn of_device(net: &Pair) -> [Amount; 2] {
    let shown = net.server.ip(&format!("-json -statistics link show {}", Pair::DEVICE));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    ["rx", "tx"].map(|direction| {
        let number = |key: &str| shown[0]["stats64"][direction][key].as_u64().unwrap();
        Amount { packets: number("packets"), bytes: number("bytes") }
    })
}
