//! Two guests of one host: what fills the tables of one interface takes nothing from the other.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;

use secgroup_tests::network::{End, at, join};
use secgroup_tests::socket::PacketSocket;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Guest, Namespace, Secgroup, frame, ping, tc_hook};

use crate::support::count_flows;

/// The guest that fills its tables, and the other one.
const FULL: &str = "tap0";
const QUIET: &str = "tap1";

const QUIET_GUEST: [&str; 2] = ["10.80.0.2", "fd80::2"];

const NEW: u16 = 2048;
const TCP: u64 = 128;
const CONFIG: &str = "[maps]\nflows_new = 2048\nflows_udp = 256\nflows_tcp = 128\nfragments = 512\n\
                      rules = 4096\ninterfaces = 2\n";

/// TCP connections of each family that fill the table of proven ones.
const STREAMS: u64 = 200;
/// Sockets at each end, each with a flow to each at the other end.
const SOCKETS: u16 = 32;
/// Frames sent at once: fewer than the queue of a device holds.
const BURST: usize = 64;

#[test]
fn a_guest_that_fills_its_tables_takes_nothing_from_another_at_tcx() {
    one_fills_its_tables(tc_hook());
}

#[test]
fn a_guest_that_fills_its_tables_takes_nothing_from_another_at_xdp() {
    one_fills_its_tables("xdp");
}

fn one_fills_its_tables(hook: &str) {
    let net = Guests::new();
    let secgroup = Secgroup::inside(&net.host);
    secgroup.configure(CONFIG);
    secgroup.ok("group create full --description x");
    secgroup.ok("group create quiet --description x");
    secgroup.ok("rule remove quiet egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let outside = "--cidr 10.79.0.0/24 --cidr fd79::/64";
    for rule in [
        format!("quiet egress --protocol tcp --port 80 {outside}"),
        format!("quiet egress --protocol udp --port 53-54 {outside}"),
        format!("quiet ingress --protocol udp --port 55 {outside}"),
        "quiet egress --protocol icmp --icmp 8 --cidr 10.79.0.0/24".into(),
        "quiet egress --protocol icmpv6 --icmp 128 --cidr fd79::/64".into(),
    ] {
        secgroup.ok(&format!("rule add {rule}"));
    }
    // Not the default, which a slow machine may exceed.
    let options = format!("--orientation guest --hook {hook} --timeout UdpTimeout=600");
    secgroup.ok(&format!("attach {FULL} --group full {options}"));
    secgroup.ok(&format!("attach {QUIET} --group quiet {options}"));

    let _servers = at(Guest::OUTSIDE, 80).map(|end| TcpServer::echo(&net.outside, end));
    let _echoes = at(Guest::OUTSIDE, 53).map(|end| UdpEcho::start(&net.outside, end));
    let mut quiet = Quiet::new(&net, &secgroup);
    let filled = thread::scope(|scope| {
        let filling = scope.spawn(|| Filled::new(&net, &secgroup));
        while !filling.is_finished() {
            quiet.opens_everything();
        }
        filling.join().unwrap()
    });
    quiet.opens_everything();
    quiet.gets_its_answers();
    quiet.gets_the_rest_of_a_datagram(|| filled.fill_fragments());

    let (full, other) = (Figures::of(&secgroup, FULL), Figures::of(&secgroup, QUIET));
    assert!(full.evicted > u64::from(NEW), "{full:?}");
    assert!(full.exceeded > full.evicted, "TCP flows did not fit: {full:?}");
    assert_eq!(full.available, 0, "{full:?}");
    assert_eq!((other.evicted, other.exceeded), (0, 0), "{other:?}");
    assert_eq!(other.entries, quiet.opened, "every flow is still there: {other:?}");
    assert_eq!(other.available, TCP - quiet.streams.len() as u64 / 2);
}

/// A host with two guests and a network beyond it.
struct Guests {
    full: Namespace,
    quiet: Namespace,
    host: Namespace,
    outside: Namespace,
}

impl Guests {
    fn new() -> Self {
        let make = Namespace::new;
        let all = Self { full: make(), quiet: make(), host: make(), outside: make() };
        all.host.sysctl("net.ipv4.ip_forward", "1");
        all.host.sysctl("net.ipv6.conf.all.forwarding", "1");
        for (end, device, subnet) in
            [(&all.full, FULL, 78), (&all.quiet, QUIET, 80), (&all.outside, "wan0", 79)]
        {
            let [far, near] = [2, 1]
                .map(|host| [format!("10.{subnet}.0.{host}/24"), format!("fd{subnet}::{host}/64")]);
            let [far, near] = [&far, &near].map(|ends| ends.each_ref().map(String::as_str));
            join([
                End { namespace: end, device: "eth0", addresses: &far },
                End { namespace: &all.host, device, addresses: &near },
            ]);
            // The destination of the frames that a test writes.
            all.host.ip(&format!("link set {device} address 02:00:00:00:00:01"));
            end.ip(&format!("route add default via 10.{subnet}.0.1"));
            end.ip(&format!("-6 route add default via fd{subnet}::1"));
        }
        all
    }
}

/// What `status` and `metrics` report about an interface.
#[derive(Debug)]
struct Figures {
    opened: u64,
    promoted: u64,
    evicted: u64,
    entries: u64,
    available: u64,
    exceeded: u64,
}

impl Figures {
    fn of(secgroup: &Secgroup<'_>, device: &str) -> Self {
        let status = secgroup.json("status");
        let interfaces = status["NetworkInterfaces"].as_array().unwrap();
        let interface = interfaces.iter().find(|one| one["Device"] == device).unwrap();
        let figure = |name: &str| interface[name].as_u64().unwrap();
        let tables = status["FlowTables"].as_array().unwrap().iter();
        let own = tables.filter(|table| table["Slot"] == interface["Slot"]);
        let text = secgroup.ok("metrics");
        let metric = |name: &str| -> u64 {
            let series = format!("secgroup_conntrack_allowance_{name}{{interface=\"{device}\"}} ");
            let found = text.lines().find_map(|line| line.strip_prefix(&series));
            found.unwrap_or_else(|| panic!("no {series}in\n{text}")).parse().unwrap()
        };
        Self {
            opened: figure("OpenedFlows"),
            promoted: figure("PromotedFlows"),
            evicted: figure("EvictedFlows"),
            entries: own.map(|table| table["Entries"].as_u64().unwrap()).sum(),
            available: metric("available"),
            exceeded: metric("exceeded_total"),
        }
    }
}

/// The guest that keeps within its tables.
struct Quiet<'a> {
    net: &'a Guests,
    secgroup: &'a Secgroup<'a>,
    /// Open connections, of each family the same number.
    streams: Vec<TcpStream>,
    /// Sockets that have asked, and those outside that have not answered yet, with whom to answer.
    asked: [(UdpSocket, UdpSocket, SocketAddr); 2],
    /// Flows so far.
    opened: u64,
    /// The last port of a UDP client: each has its own, and a flow of its own.
    port: u16,
}

impl<'a> Quiet<'a> {
    fn new(net: &'a Guests, secgroup: &'a Secgroup<'a>) -> Self {
        let asked = at(Guest::OUTSIDE, 54).map(|end| {
            let server = udp::bind(&net.outside, end);
            let socket = udp::connect(&net.quiet, end);
            for one in [&server, &socket] {
                one.set_read_timeout(Some(MAX_WAIT)).unwrap();
            }
            socket.send(b"question").unwrap();
            let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
            (socket, server, from)
        });
        let mut quiet = Self { net, secgroup, streams: Vec::new(), asked, opened: 2, port: 20_000 };
        quiet.opens_everything();
        quiet
    }

    /// Opens one flow of each kind, uses the connections that are open, and nothing else is counted.
    fn opens_everything(&mut self) {
        let before = self.secgroup.counters();
        for end in Guest::OUTSIDE {
            let server = SocketAddr::new(end, 80);
            self.streams.push(tcp::connect(&self.net.quiet, server).unwrap());
            for payload in [14, 4000] {
                self.port += 1;
                let server = SocketAddr::new(end, 53);
                let socket = udp::connect_from(&self.net.quiet, self.port, server);
                assert!(is_echoed(&socket, payload), "{payload} bytes to {end}");
            }
            assert!(ping::ping(&self.net.quiet, end), "{end}");
            self.opened += 4;
        }
        for stream in &mut self.streams {
            tcp::exchange(stream, b"request").unwrap();
        }
        let counted = self.secgroup.counters().since(&before).of_device(QUIET);
        let expected = [
            (QUIET, "egress", "new-flow", 8),
            (QUIET, "egress", "later-fragment", 4),
            (QUIET, "ingress", "later-fragment", 4),
        ];
        let exact = counted.clone().without("established").is_exactly(&expected);
        assert!(exact, "{counted}\n{}", self.secgroup.view());
        let filter = format!("--interface {QUIET} --protocol tcp --tier proven");
        assert_eq!(count_flows(self.secgroup, &filter), self.streams.len() as u64);
    }

    /// The answers to the questions of the beginning arrive.
    fn gets_its_answers(&self) {
        for (socket, server, from) in &self.asked {
            server.send_to(b"answer", from).unwrap();
            assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 6, "{from}");
        }
    }

    /// A datagram is complete although something happens between its fragments.
    fn gets_the_rest_of_a_datagram(&mut self, meanwhile: impl Fn()) {
        let wire = PacketSocket::new(&self.net.outside, "eth0");
        let inside = at(QUIET_GUEST.map(|address| address.parse::<IpAddr>().unwrap()), 55);
        let receivers = inside.map(|end| udp::bind(&self.net.quiet, end));
        let datagrams: Vec<_> = at(Guest::OUTSIDE, 4000)
            .into_iter()
            .zip(inside)
            .map(|(from, to)| frame::udp(from, to, &[7; 2000]))
            .collect();
        let send = |range: std::ops::Range<usize>, more: bool| {
            for datagram in &datagrams {
                wire.send(&frame::ethernet(&frame::fragment(datagram, 1, range.clone(), more)));
            }
        };
        send(0..1200, true);
        meanwhile();
        send(1200..2008, false);
        for receiver in receivers {
            receiver.set_read_timeout(Some(MAX_WAIT)).unwrap();
            assert_eq!(receiver.recv(&mut [0; 4000]).unwrap(), 2000);
        }
        self.opened += 2;
    }
}

/// Sends a datagram to an echo server; returns whether it comes back complete.
fn is_echoed(socket: &UdpSocket, length: usize) -> bool {
    socket.set_read_timeout(Some(MAX_WAIT)).unwrap();
    socket.send(&vec![7; length]).unwrap();
    let mut back = vec![0; length + 1];
    socket.recv(&mut back).is_ok_and(|received| received == length)
}

/// The guest whose tables are full: connections that are established, datagrams that were answered
/// twice and pings that were answered, more than fit, and unfinished datagrams.
struct Filled<'a> {
    net: &'a Guests,
    secgroup: &'a Secgroup<'a>,
    _streams: Vec<TcpStream>,
}

impl<'a> Filled<'a> {
    fn new(net: &'a Guests, secgroup: &'a Secgroup<'a>) -> Self {
        let streams = Guest::OUTSIDE.into_iter().flat_map(|end| {
            (0..STREAMS).map(move |_| {
                let mut stream = tcp::connect(&net.full, SocketAddr::new(end, 80)).unwrap();
                tcp::exchange(&mut stream, b"request").unwrap();
                stream
            })
        });
        let filled = Self { net, secgroup, _streams: streams.collect() };
        filled.fill_proven_udp();
        filled.fill_new();
        filled.fill_fragments();
        filled
    }

    fn fill_proven_udp(&self) {
        let bind = |namespace, addresses: [IpAddr; 2]| {
            addresses.map(|address| -> Vec<_> {
                let sockets = (1000..1000 + SOCKETS)
                    .map(|port| udp::bind(namespace, SocketAddr::new(address, port)));
                sockets.inspect(|one| one.set_read_timeout(Some(MAX_WAIT)).unwrap()).collect()
            })
        };
        let clients = bind(&self.net.full, Guest::GUEST);
        let servers = bind(&self.net.outside, Guest::OUTSIDE);
        let expected = 2 * (TCP + u64::from(SOCKETS) * u64::from(SOCKETS));
        wait_until(MAX_WAIT, "datagrams that were answered twice", || {
            for (clients, servers) in clients.iter().zip(&servers) {
                clients.iter().for_each(|client| exchange_with_all(client, servers));
            }
            Figures::of(self.secgroup, FULL).promoted >= expected
        });
    }

    fn fill_new(&self) {
        let frames = Guest::GUEST.into_iter().zip(Guest::OUTSIDE).flat_map(|(from, to)| {
            (1..=2 * NEW).map(move |id| frame::ethernet(&frame::echo_request(from, to, id)))
        });
        let frames: Vec<_> = frames.collect();
        let answers = || self.secgroup.counters().packets(FULL, "ingress", "established");
        let before = (Figures::of(self.secgroup, FULL).opened, answers());
        let expected = frames.len() as u64;
        self.send_until("pings of new flows", &frames, || {
            Figures::of(self.secgroup, FULL).opened >= before.0 + expected
                && answers() >= before.1 + expected
        });
    }

    fn fill_fragments(&self) {
        let ends = at(Guest::GUEST, 4000).into_iter().zip(at(Guest::OUTSIDE, 9));
        let frames = ends.flat_map(|(from, to)| {
            let datagram = frame::udp(from, to, &[7; 100]);
            (1..=NEW).map(move |id| frame::ethernet(&frame::fragment(&datagram, id, 0..64, true)))
        });
        let frames: Vec<_> = frames.collect();
        let firsts = || self.secgroup.counters().packets(FULL, "egress", "established");
        let before = firsts();
        self.send_until("first fragments", &frames, || firsts() >= before + frames.len() as u64);
    }

    /// A device may drop frames before the program, so they are sent until a condition holds.
    fn send_until(&self, what: &str, frames: &[Vec<u8>], mut condition: impl FnMut() -> bool) {
        let wire = PacketSocket::new(&self.net.full, "eth0");
        wait_until(MAX_WAIT, what, || {
            for burst in frames.chunks(BURST) {
                burst.iter().for_each(|frame| wire.send(frame));
                thread::yield_now();
            }
            condition()
        });
    }
}

/// A request and its reply over each flow of a socket.
fn exchange_with_all(client: &UdpSocket, servers: &[UdpSocket]) {
    let mut data = [0; 16];
    for server in servers {
        client.send_to(b"question", server.local_addr().unwrap()).unwrap();
        let (_, from) = server.recv_from(&mut data).unwrap();
        server.send_to(b"answer", from).unwrap();
        assert_eq!(client.recv(&mut data).unwrap(), 6);
    }
}
