//! TCP in segments of up to 64 KB, as offload makes them: counted as what they are.

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

/// Ethernet, IP, and TCP with time stamps.
fn headers(of: IpAddr) -> u64 {
    14 + if of.is_ipv4() { 20 } else { 40 } + 32
}

#[test]
fn segments_of_64_kb_are_counted_as_the_device_counts_them() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    guard(&secgroup);
    for end in Pair::SERVER {
        for ([counted, device], way) in
            transfer(&net, &secgroup, end).into_iter().zip(["in", "out"])
        {
            assert_eq!(counted, device, "{end}: {way}");
            // RSTs leave their time stamps out.
            let least = u64::from(BULK) + counted.packets * headers(end) - 100;
            assert!(counted.bytes > least, "{end}: {way}: {counted:?}, expected {least}");
            assert!(
                counted.bytes / counted.packets > 4000,
                "{end}: {way}: {counted:?}: no offload"
            );
        }
    }
}

/// Behind receive offload a packet stands for several frames: the headers of all but the first are
/// not there any more.
#[test]
fn merged_segments_are_counted_with_one_header() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    guard(&secgroup);
    for offload in [Offload::TcpSegmentation, Offload::Segmentation] {
        set_offload(&net.client, Pair::DEVICE, offload, false);
    }
    set_offload(&net.server, Pair::DEVICE, Offload::Receive, true);
    for end in Pair::SERVER {
        let [[counted, device], _] = transfer(&net, &secgroup, end);
        assert!(device.bytes / device.packets < 1515, "{end}: {device:?} has offload");
        assert!(device.packets > 2 * counted.packets, "{end}: {counted:?} of {device:?}");
        // A veth that merges may count bytes without the Ethernet header.
        let gone = [0, 14].map(|ethernet| device.bytes + ethernet * device.packets - counted.bytes);
        let merged = device.packets - counted.packets;
        // Time stamps at least, selective acknowledgements at most.
        let range = merged * headers(end)..=merged * (headers(end) + 28);
        assert!(
            gone.iter().any(|gone| range.contains(gone)),
            "{end}: {counted:?} of {device:?}, expected {range:?}, not {gone:?}"
        );
    }
}

fn guard(secgroup: &Secgroup<'_>) {
    secgroup.ok("group create web --description x");
    secgroup
        .ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64");
    secgroup.ok(&format!("attach {} --group web --hook tcx", Pair::DEVICE));
}

/// Moves much both ways; returns what was received and what was sent meanwhile, as counted by
/// secgroup and by the device.
fn transfer(net: &Pair, secgroup: &Secgroup<'_>, end: IpAddr) -> [[Amount; 2]; 2] {
    let now = || {
        let [counted, device] = [counted(secgroup), of_device(net)];
        [0, 1].map(|way| [counted[way], device[way]])
    };
    let quiet = || {
        wait_for_quiet(Duration::from_millis(100), "the link to fall silent", || of_device(net));
    };
    quiet();
    let before = now();
    {
        let echo = TcpServer::echo(&net.server, SocketAddr::new(end, 80));
        let mut stream = tcp::connect(&net.client, echo.address()).unwrap();
        tcp::exchange(&mut stream, &vec![7; usize::try_from(BULK).unwrap()]).unwrap();
    }
    quiet();
    let after = now();
    [0, 1].map(|way| [0, 1].map(|by| after[way][by].since(before[way][by])))
}

/// What all reasons add up to, by direction.
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
    ["rx", "tx"].map(|way| {
        let number = |key: &str| shown[0]["stats64"][way][key].as_u64().unwrap();
        Amount { packets: number("packets"), bytes: number("bytes") }
    })
}
