//! Floods of spoofed packets that the rules allow evict their own flows and no proven flow.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use secgroup_tests::network::at;
use secgroup_tests::socket::PacketSocket;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, frame, tc_hook, udp};

use crate::support::count_flows;

/// Capacity for unproven flows, by family.
const TABLE: u16 = 4096;
/// Sockets on each host, each with a flow to each on the other: a thousand flows.
const SOCKETS: u16 = 32;
/// TCP connections that stay open, by family.
const STREAMS: usize = 16;
/// Connections that are made during a flood, by family.
const CONNECTIONS: u16 = 100;

/// Frames sent at once beside other traffic: fewer than the queue of a device holds.
const BURST: usize = 64;
/// From one burst to the next.
const BURST_INTERVAL: Duration = Duration::from_millis(1);

const CONFIG: &str = "[maps]\nflows_new = 4096\nflows_udp = 4096\nflows_tcp = 2048\nrules = 4096\n\
                      interfaces = 2\n";

#[test]
fn a_thousand_idle_flows_survive_floods_at_tcx() {
    idle_flows_survive_floods(tc_hook());
}

#[test]
fn a_thousand_idle_flows_survive_floods_at_xdp() {
    idle_flows_survive_floods("xdp");
}

fn idle_flows_survive_floods(hook: &str) {
    let net = Pair::new();
    net.server.ip(&format!("link set {} address 02:00:00:00:00:01", Pair::DEVICE));
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(CONFIG);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    // The server has no route to the spoofed addresses, so it does not reply.
    let spoofed = "--cidr 198.18.0.0/15 --cidr 2001:db8:18::/48";
    let udp_rule = "udp --port 1000-1031 --cidr 10.77.0.0/24 --cidr fd77::/64";
    for rule in [
        "tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64",
        &format!("tcp --port 80 {spoofed}"),
        &format!("udp --port 53 {spoofed}"),
        "icmp --icmp 8 --cidr 198.18.0.0/15",
        "icmpv6 --icmp 128 --cidr 2001:db8:18::/48",
        udp_rule,
    ] {
        secgroup.ok(&format!("rule add web ingress --protocol {rule}"));
    }
    secgroup.ok(&format!("attach {} --group web --hook {hook}", Pair::DEVICE));

    let _servers = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
    let mut flows_by_family = [0, 1].map(|family| IdleFlows::new(&net, family));
    let proven = || count_flows(&secgroup, "--tier proven");
    let expected = 2 * (u64::from(SOCKETS * SOCKETS) + STREAMS as u64);
    // The table of new flows holds all of them until they are old enough.
    wait_until(MAX_WAIT, "the flows to be proven", || {
        flows_by_family.iter().for_each(IdleFlows::exchange_datagrams);
        proven() == expected
    });
    secgroup.ok(&format!("rule remove web ingress --protocol {udp_rule}"));

    let wire = PacketSocket::new(&net.client, Pair::DEVICE);
    for (family, flows) in flows_by_family.iter_mut().enumerate() {
        for kind in KINDS {
            let frames = spoofed_frames(family, kind);
            // A device may drop frames before the program.
            let before = secgroup.counters();
            wait_until(MAX_WAIT, &format!("ten tables of {kind:?}"), || {
                frames.iter().for_each(|frame| wire.send(frame));
                let moved = secgroup.counters().since(&before);
                assert!(moved.is_exactly(&[(
                    Pair::DEVICE,
                    "ingress",
                    "new-flow",
                    moved.packets(Pair::DEVICE, "ingress", "new-flow")
                )]));
                moved.packets(Pair::DEVICE, "ingress", "new-flow") >= 10 * u64::from(TABLE)
            });
        }
        assert_eq!(proven(), expected, "{}", secgroup.view());
        flows.assert_established(&secgroup);
    }

    for (family, end) in at(Pair::SERVER, 80).into_iter().enumerate() {
        for kind in KINDS {
            let frames = spoofed_frames(family, kind);
            let start = Instant::now();
            let (result, sent) = while_sending(&wire, &frames, || {
                for number in 0..CONNECTIONS {
                    let mut stream = tcp::connect(&net.client, end)?;
                    tcp::exchange(&mut stream, &number.to_be_bytes())?;
                }
                Ok::<_, io::Error>(())
            });
            let seconds = start.elapsed().as_secs_f64();
            result.unwrap_or_else(|error| panic!("{end}: {kind:?}: {error}\n{}", secgroup.view()));
            let rate = |number: f64| number / seconds;
            println!(
                "{hook}: {end}: {:.0} connections a second beside {:.0} of {kind:?}",
                rate(f64::from(CONNECTIONS)),
                rate(sent as f64)
            );
        }
    }
    for flows in &mut flows_by_family {
        flows.assert_established(&secgroup);
    }
}

/// Idle proven flows of a family.
struct IdleFlows {
    clients: Vec<UdpSocket>,
    servers: Vec<UdpSocket>,
    streams: Vec<TcpStream>,
}

impl IdleFlows {
    fn new(net: &Pair, family: usize) -> Self {
        let sockets = |namespace, address: IpAddr| {
            let bind = |port| {
                let socket = udp::bind(namespace, SocketAddr::new(address, port));
                socket.set_read_timeout(Some(MAX_WAIT)).unwrap();
                socket
            };
            (1000..1000 + SOCKETS).map(bind).collect()
        };
        let streams = (0..STREAMS).map(|_| {
            let end = at(Pair::SERVER, 80)[family];
            let mut stream = tcp::connect(&net.client, end).unwrap();
            tcp::exchange(&mut stream, b"hello").unwrap();
            stream
        });
        Self {
            clients: sockets(&net.client, Pair::CLIENT[family]),
            servers: sockets(&net.server, Pair::SERVER[family]),
            streams: streams.collect(),
        }
    }

    /// Exchanges a request and a reply over every UDP flow.
    fn exchange_datagrams(&self) {
        let mut data = [0; 16];
        for client in &self.clients {
            for server in &self.servers {
                client.send_to(b"question", server.local_addr().unwrap()).unwrap();
                let (_, from) = server.recv_from(&mut data).unwrap();
                assert_eq!(from, client.local_addr().unwrap());
                server.send_to(b"answer", from).unwrap();
                assert_eq!(client.recv(&mut data).unwrap(), 6);
            }
        }
    }

    fn assert_established(&mut self, secgroup: &Secgroup<'_>) {
        // These packets pass by their flows alone. Their number varies, because earlier connections
        // may still be closing.
        secgroup.moved_over_flows(&[], || {
            self.exchange_datagrams();
            for stream in &mut self.streams {
                tcp::exchange(stream, b"still there").unwrap();
            }
        });
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Syn,
    Datagram,
    EchoRequest,
}

const KINDS: [Kind; 3] = [Kind::Syn, Kind::Datagram, Kind::EchoRequest];

/// Packets of different flows, ten times the table's capacity.
fn spoofed_frames(family: usize, kind: Kind) -> Vec<Vec<u8>> {
    let server = Pair::SERVER[family];
    let frame = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let from = match server {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(198, 18, high, low)),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x18, 0, 0, 0, 0, number).into(),
        };
        let port = |port| SocketAddr::new(server, port);
        frame::ethernet(&match kind {
            Kind::Syn => frame::syn(SocketAddr::new(from, 4000), port(80), number.into()),
            Kind::Datagram => frame::udp(SocketAddr::new(from, 4000), port(53), b"request"),
            Kind::EchoRequest => frame::echo_request(from, server, number),
        })
    };
    (1..=10 * TABLE).map(frame).collect()
}

/// Runs work while frames are sent repeatedly; returns its result and the number of frames sent.
fn while_sending<T>(
    wire: &PacketSocket,
    frames: &[Vec<u8>],
    work: impl FnOnce() -> T,
) -> (T, usize) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0;
            for burst in frames.chunks(BURST).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                burst.iter().for_each(|frame| wire.send(frame));
                sent += burst.len();
                thread::sleep(BURST_INTERVAL);
            }
            sent
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        (result, flood.join().unwrap())
    })
}
