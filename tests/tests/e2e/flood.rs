//! Floods of spoofed packets that the rules allow: they push each other out, and nobody else.

use std::io;
use std::iter::repeat_n;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use secgroup_tests::network::at;
use secgroup_tests::socket::PacketSocket;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, frame, tc_hook, udp};

/// Unproven flows that there is room for, by family.
const TABLE: u16 = 4096;
/// Sockets at either end, each of which talks to each: a thousand flows.
const SOCKETS: u16 = 32;
/// Connections that stay open, by family.
const STREAMS: usize = 16;
/// Connections that are made during a flood, by family.
const MEANWHILE: u16 = 100;

/// Frames that are sent at once while others want to get through: less than a device keeps.
const BURST: usize = 64;
/// From one burst to the next.
const PACE: Duration = Duration::from_millis(1);

const CONFIG: &str =
    "[maps]\nflows_new = 4096\nflows_proven = 2048\nrules = 4096\ninterfaces = 2\n";

#[test]
fn a_thousand_idle_flows_outlive_floods_through_tcx() {
    story(tc_hook());
}

#[test]
fn a_thousand_idle_flows_outlive_floods_through_xdp() {
    story("xdp");
}

fn story(hook: &str) {
    let net = Pair::new();
    net.server.ip(&format!("link set {} address 02:00:00:00:00:01", Pair::DEVICE));
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(CONFIG);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    // Nothing answers the spoofed addresses: the server has no route there.
    let spoofed = "--cidr 198.18.0.0/15 --cidr 2001:db8:18::/48";
    let idle = "udp --port 1000-1031 --cidr 10.77.0.0/24 --cidr fd77::/64";
    for rule in [
        "tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64",
        &format!("tcp --port 80 {spoofed}"),
        &format!("udp --port 53 {spoofed}"),
        "icmp --icmp 8 --cidr 198.18.0.0/15",
        "icmpv6 --icmp 128 --cidr 2001:db8:18::/48",
        idle,
    ] {
        secgroup.ok(&format!("rule add web ingress --protocol {rule}"));
    }
    secgroup.ok(&format!("attach {} --group web --hook {hook}", Pair::DEVICE));

    let _servers = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
    let mut idle_flows = [0, 1].map(|family| Idle::new(&net, family));
    secgroup.ok(&format!("rule remove web ingress --protocol {idle}"));
    let proven = || secgroup.json("flows count --tier proven")["Count"].as_u64();
    let expected = 2 * (usize::from(SOCKETS * SOCKETS) + STREAMS);
    assert_eq!(proven(), u64::try_from(expected).ok());

    let wire = PacketSocket::new(&net.client, Pair::DEVICE);
    for (family, idle) in idle_flows.iter_mut().enumerate() {
        for kind in KINDS {
            let frames = spoofed_frames(family, kind);
            // A device may drop some on its way to the program.
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
        assert_eq!(proven(), u64::try_from(expected).ok(), "{}", secgroup.view());
        idle.still_talk(&secgroup);
    }

    for (family, end) in at(Pair::SERVER, 80).into_iter().enumerate() {
        for kind in KINDS {
            let frames = spoofed_frames(family, kind);
            let start = Instant::now();
            let (made, sent) = while_sending(&wire, &frames, || {
                for number in 0..MEANWHILE {
                    let mut stream = tcp::connect(&net.client, end)?;
                    tcp::exchange(&mut stream, &number.to_be_bytes())?;
                }
                Ok::<_, io::Error>(())
            });
            let seconds = start.elapsed().as_secs_f64();
            made.unwrap_or_else(|error| panic!("{end}: {kind:?}: {error}\n{}", secgroup.view()));
            let rate = |number: f64| number / seconds;
            println!(
                "{hook}: {end}: {:.0} connections a second beside {:.0} of {kind:?}",
                rate(f64::from(MEANWHILE)),
                rate(sent as f64)
            );
        }
    }
    for idle in &mut idle_flows {
        idle.still_talk(&secgroup);
    }
}

/// Flows of a family that were proven, and then left alone.
struct Idle {
    clients: Vec<UdpSocket>,
    servers: Vec<UdpSocket>,
    streams: Vec<TcpStream>,
}

impl Idle {
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
        let idle = Self {
            clients: sockets(&net.client, Pair::CLIENT[family]),
            servers: sockets(&net.server, Pair::SERVER[family]),
            streams: streams.collect(),
        };
        // One after the other: the table of new flows would not hold all of them.
        idle.converse(2);
        idle
    }

    /// Questions and their answers over every flow.
    fn converse(&self, times: usize) {
        let mut data = [0; 16];
        for client in &self.clients {
            for server in self.servers.iter().flat_map(|server| repeat_n(server, times)) {
                client.send_to(b"question", server.local_addr().unwrap()).unwrap();
                let (_, from) = server.recv_from(&mut data).unwrap();
                assert_eq!(from, client.local_addr().unwrap());
                server.send_to(b"answer", from).unwrap();
                assert_eq!(client.recv(&mut data).unwrap(), 6);
            }
        }
    }

    fn still_talk(&mut self, secgroup: &Secgroup<'_>) {
        // Only flows let these pass. How many packets: earlier connections may still be ending.
        secgroup.moved_over_flows(&[], || {
            self.converse(1);
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

/// Ten tables full of packets, each of another flow.
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
            Kind::Datagram => frame::udp(SocketAddr::new(from, 4000), port(53), b"let me in"),
            Kind::EchoRequest => frame::echo_request(from, server, number),
        })
    };
    (1..=10 * TABLE).map(frame).collect()
}

/// Works while frames are sent again and again; returns how many were.
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
                thread::sleep(PACE);
            }
            sent
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        (result, flood.join().unwrap())
    })
}
