//! The measurements.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::firewall::{ActiveFirewall, Subject};
use super::generator::{FIRST_PORT, FLOWS, FLOWS_PORT, Generator, Traffic};
use super::metric::Metric;
use super::receiver::Receiver;
use super::rules::PORT;
use super::stopwatch::Stopwatch;
use crate::decision::Family;
use crate::process::output;
use crate::wait::MAX_WAIT;
use crate::{Namespace, Pair, Process, udp};

/// The length of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Time per kind of generated packets.
    pub packets: Duration,
    /// Number of consecutive TCP connections.
    pub connections: u32,
    /// Number of round trips of one byte.
    pub round_trips: u32,
    /// Seconds of iperf3.
    pub stream: u32,
}

/// Packets of the warm-up, from which the number for the given time follows.
const WARM_UP: u32 = 2_000;
/// The default port of iperf3.
const STREAM_PORT: u16 = 5201;

/// A subject with its own two hosts. The calling thread generates packets, and has to run on CPU 0,
/// where they are also received.
pub struct Lab {
    /// The measured subject.
    pub subject: Subject,
    // In drop order.
    _streams: Option<Process>,
    firewall: ActiveFirewall,
    /// Receive the packets of flows, and those of the flood if no firewall drops them.
    sockets: [UdpSocket; 2],
    generator: Generator,
    pair: Pair,
}

impl Lab {
    /// Creates the hosts and activates the firewall.
    #[must_use]
    pub fn new(subject: Subject, object: &Path) -> Self {
        let pair = Pair::new();
        for (namespace, address) in [(&pair.server, 1), (&pair.client, 2)] {
            namespace.ip(&format!("link set {} address 02:00:00:00:00:0{address}", Pair::DEVICE));
        }
        // Permanent neighbour entries: the peers drop neighbour discovery.
        for (namespace, number, address) in
            [(&pair.server, 2, Pair::CLIENT[1]), (&pair.client, 1, Pair::SERVER[1])]
        {
            let there = format!("{address} lladdr 02:00:00:00:00:0{number} dev {}", Pair::DEVICE);
            namespace.ip(&format!("neighbour replace {there} nud permanent"));
        }
        let mut generator = Generator::new(object, &pair.client);
        let firewall = ActiveFirewall::new(subject, &pair.server, &mut generator);
        let server = Pair::SERVER[subject.family as usize];
        let sockets =
            [FLOWS_PORT, PORT].map(|port| udp::bind(&pair.server, SocketAddr::new(server, port)));
        let streams = Metric::Throughput.is_of(subject).then(|| streams(&pair.server));
        Self { subject, _streams: streams, firewall, sockets, generator, pair }
    }

    /// Measures a metric once.
    #[must_use]
    pub fn measure(&self, metric: Metric, effort: &Effort) -> f64 {
        match metric {
            Metric::Dropped => self.flood(Traffic::Unmatched, effort.packets),
            Metric::Established => {
                self.establish();
                self.flood(Traffic::Established, effort.packets)
            }
            Metric::Connections => self.connections(effort.connections),
            Metric::Throughput => self.throughput(effort.stream),
            Metric::RoundTrip => self.round_trip(effort.round_trips),
        }
    }

    /// CPU nanoseconds of receiving a packet, from the device to its drop or socket.
    fn flood(&self, traffic: Traffic, time: Duration) -> f64 {
        let receiver = Receiver::start(&self.pair.server);
        let start = Instant::now();
        self.send(traffic, WARM_UP);
        let batches = time.as_secs_f64() / start.elapsed().as_secs_f64();
        let times = Duration::from_secs_f64(batches.clamp(1.0, 1000.0)).as_secs();
        let frames = WARM_UP * u32::try_from(times).unwrap_or(1);
        let before = receiver.time();
        let handled = self.generate(traffic, frames);
        let spent = receiver.time() - before;
        assert!(!spent.is_zero(), "/proc has no CPU times of kernel threads; is this a container?");
        spent.as_secs_f64() * 1e9 / handled as f64
    }

    /// Sends packets; returns how many the firewall has dropped, or the server received. Datagrams
    /// that its socket queue still holds do not count.
    #[must_use]
    pub fn count(&self, traffic: Traffic, frames: u32) -> u64 {
        let _receiver = Receiver::start(&self.pair.server);
        self.generate(traffic, frames)
    }

    fn generate(&self, traffic: Traffic, frames: u32) -> u64 {
        let before = self.handled(traffic);
        self.send(traffic, frames);
        let handled = self.handled(traffic) - before;
        assert!(
            handled * 100 > u64::from(frames) * 99,
            "{}: only {handled} of {frames} packets ({traffic:?}) arrived",
            self.subject
        );
        handled
    }

    /// Fills the queue of the server's socket, which is not read.
    pub fn fill(&self) {
        let _receiver = Receiver::start(&self.pair.server);
        self.send(Traffic::Established, WARM_UP);
    }

    fn send(&self, traffic: Traffic, frames: u32) {
        self.generator.send(&self.pair.client, traffic, self.subject.family, frames);
    }

    /// Packets that the firewall has dropped so far.
    #[must_use]
    pub fn dropped(&self) -> Option<u64> {
        self.firewall.dropped(&self.pair.server, &self.generator)
    }

    /// Packets dropped by the firewall, or received by the server.
    fn handled(&self, traffic: Traffic) -> u64 {
        let dropped = match traffic {
            Traffic::Unmatched => self.dropped(),
            Traffic::Established => None,
        };
        dropped.unwrap_or_else(|| received(&self.pair.server, self.subject.family))
    }

    /// Establishes each flow of the generator: a datagram of the server, its reply, and a second
    /// datagram. Without a flow, the client's packets are dropped.
    pub fn establish(&self) {
        let (client, [server, _]) = (&self.pair.client, &self.sockets);
        let address = Pair::CLIENT[self.subject.family as usize];
        let mut data = [0; 64];
        server.set_nonblocking(true).expect("set the socket to non-blocking");
        while server.recv(&mut data).is_ok() {}
        server.set_nonblocking(false).expect("set the socket to blocking");
        server.set_read_timeout(Some(MAX_WAIT)).expect("set a read timeout");
        client.run(|| {
            for port in FIRST_PORT..FIRST_PORT + FLOWS {
                let there = SocketAddr::new(address, port);
                let socket = UdpSocket::bind(there).expect("a port of the client");
                socket.set_read_timeout(Some(MAX_WAIT)).expect("set a read timeout");
                for has_reply in [true, false] {
                    server.send_to(b"request", there).expect("send a request");
                    let (_, requester) = socket.recv_from(&mut data).expect("receive a request");
                    if has_reply {
                        socket.send_to(b"reply", requester).expect("send a reply");
                        let (_, from) = server.recv_from(&mut data).expect("receive a reply");
                        assert_eq!(from, there, "the sender of the reply");
                    }
                }
            }
        });
    }

    /// Connections per second that one thread opens, accepts and closes at both ends, which avoids
    /// wake-ups.
    fn connections(&self, count: u32) -> f64 {
        let (listener, to) = self.listen();
        self.pair.client.run(|| {
            let watch = Stopwatch::start();
            for _ in 0..count {
                let client = TcpStream::connect(to).expect("connect");
                let (server, _) = listener.accept().expect("accept");
                drop(client);
                drop(server);
            }
            f64::from(count) / watch.read().as_secs_f64()
        })
    }

    /// Microseconds for the round trip of a byte, the median of many; one thread at both ends.
    fn round_trip(&self, count: u32) -> f64 {
        let (listener, to) = self.listen();
        let mut client = self.pair.client.run(|| TcpStream::connect(to).expect("connect"));
        let (mut server, _) = listener.accept().expect("accept");
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("set TCP_NODELAY");
            stream.set_read_timeout(Some(MAX_WAIT)).expect("set a read timeout");
        }
        let mut byte = [7];
        let mut once = || {
            let start = Instant::now();
            client.write_all(&byte).expect("send a request");
            server.read_exact(&mut byte).expect("receive a request");
            server.write_all(&byte).expect("send a reply");
            client.read_exact(&mut byte).expect("receive a reply");
            start.elapsed()
        };
        let mut times: Vec<Duration> = (0..count).map(|_| once()).collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    }

    fn listen(&self) -> (TcpListener, SocketAddr) {
        let to = SocketAddr::new(Pair::SERVER[0], PORT);
        let listener = self.pair.server.run(|| TcpListener::bind(to).expect("listen"));
        (listener, to)
    }

    /// Gbit/s of one connection from the client, with each end on a separate CPU if there are
    /// two.
    fn throughput(&self, seconds: u32) -> f64 {
        let mut iperf = self.pair.client.command("iperf3");
        let (server, port) = (Pair::SERVER[0].to_string(), STREAM_PORT.to_string());
        iperf.args(["--json", "--client", &server, "--port", &port]);
        iperf.args(["--time", &seconds.to_string(), "--affinity", &cpus()]);
        let report = output(&mut iperf);
        let report: Value = serde_json::from_str(&report).expect("iperf3 --json prints JSON");
        let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
        bits.unwrap_or_else(|| panic!("{}: iperf3 printed {report:#}", self.subject)) / 1e9
    }
}

/// The CPUs of client and server, as the argument of iperf3's `--affinity`.
fn cpus() -> String {
    // Not `available_parallelism`: this thread is pinned to one CPU.
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let client = if online.trim() == "0" { 0 } else { 1 };
    format!("{client},0")
}

fn streams(server: &Namespace) -> Process {
    let mut command = server.command("iperf3");
    command.args(["--server", "--forceflush", "--port", &STREAM_PORT.to_string()]);
    let process = Process::capture(command);
    process.wait_for_output("Server listening");
    process
}

/// UDP datagrams for sockets of a namespace: those that were read, and those that a full queue
/// dropped.
fn received(namespace: &Namespace, family: Family) -> u64 {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/snmp",
        Family::V6 => "/proc/thread-self/net/snmp6",
    };
    let table = namespace.run(|| fs::read_to_string(file));
    let table = table.expect("read the counters of protocols");
    let values: Vec<(&str, &str)> = match family {
        // A line of names, followed by a line of values.
        Family::V4 => {
            let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
            let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
            names.split_whitespace().zip(values.split_whitespace()).collect()
        }
        Family::V6 => {
            let own = table.lines().filter_map(|line| line.strip_prefix("Udp6"));
            own.filter_map(|line| line.split_once(char::is_whitespace)).collect()
        }
    };
    values
        .into_iter()
        .filter(|(name, _)| matches!(*name, "InDatagrams" | "RcvbufErrors"))
        .map(|(_, value)| value.trim().parse::<u64>().expect("a counter is a number"))
        .sum()
}
