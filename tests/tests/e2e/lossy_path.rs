//! TCP over a path that loses, duplicates and reorders frames: secgroup drops none of its packets.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use secgroup_tests::path::{Faults, Path};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::wait_for_quiet;
use secgroup_tests::{Namespace, Pair, Secgroup, socket, tc_hook};

/// The attach options for TCP, the faults of the path, and the reasons for which late or duplicate
/// segments may be dropped, because their sender has retransmitted them or closed the connection.
const MODES: [(&str, Faults, &[&str]); 2] =
    [("", ALL_FAULTS, &[]), ("--tcp strict", ALL_FAULTS, &["tcp-window", "tcp-reset"])];

/// Loss, duplication and reordering of frames.
const ALL_FAULTS: Faults = Faults {
    lost: 10,
    twice: 20,
    late: 50,
    delay: Duration::from_millis(1),
    max_jitter: Duration::from_millis(15),
};

/// How long a connection may be silent. After lost SYN-ACKs a Linux server with early data waits
/// 8 s before it retransmits lost data.
const LIMIT: Duration = Duration::from_secs(30);

/// Short connections, by family.
const SHORT_CONNECTIONS: u32 = 1000;
/// Concurrent clients and servers, by family.
const WORKERS: u32 = 50;
/// Connections that both ends close at the same time.
const SIMULTANEOUS_CLOSES: u64 = 50;
/// Bytes each way of a long connection.
const LONG_CONNECTION_BYTES: usize = 3 << 20;

const QUIET_TIME: Duration = Duration::from_millis(300);

#[test]
fn every_connection_over_a_lossy_path_completes_at_tcx() {
    complete_connections(tc_hook());
}

#[test]
fn every_connection_over_a_lossy_path_completes_at_xdp() {
    complete_connections("xdp");
}

fn complete_connections(hook: &str) {
    for (option, faults, allowed_drops) in MODES {
        complete_connections_with(&format!("--hook {hook} {option}"), faults, allowed_drops);
    }
}

fn complete_connections_with(options: &str, faults: Faults, allowed_drops: &[&str]) {
    let path = Path::new(faults);
    let Pair { server, client } = &path.pair;
    for namespace in [server, client] {
        namespace.sysctl("net.ipv4.tcp_ecn", "1");
        namespace.sysctl("net.ipv4.tcp_fastopen", "3");
    }
    let secgroup = Secgroup::inside(server);
    secgroup.configure("[maps]\nflows_new = 8192\nflows_tcp = 8192\ninterfaces = 2\n");
    secgroup.ok("group create web --description x");
    secgroup.ok(
        "rule add web ingress --protocol tcp --port 80-82 --cidr 10.77.0.0/24 --cidr fd77::/64",
    );
    // Egress packets pass by their flows alone.
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("attach eth0 --group web {options}"));

    let before = secgroup.counters();
    let complete = thread::scope(|scope| {
        let families = Pair::SERVER.map(|address| {
            // One port each, because a child process that was just forked keeps a listener open.
            let [short, crossed, long] = [80, 81, 82].map(|port| SocketAddr::new(address, port));
            scope.spawn(move || {
                short_connections(server, client, short);
                simultaneous_closes(server, client, crossed);
                long_connection(server, client, long);
            })
        });
        families.map(|family| family.join().is_ok()) == [true; 2]
    });
    assert!(
        complete,
        "{options}: not all connections completed: {}",
        secgroup.counters().since(&before)
    );
    // Late segments count too, and lost segments at the end are retransmitted.
    wait_for_quiet(QUIET_TIME, "the last segments", || secgroup.counters());
    let moved = secgroup.counters().since(&before);
    let allowed = ["established", "new-flow"].iter().chain(allowed_drops);
    let others = allowed.fold(moved.clone(), |moved, reason| moved.without(reason));
    assert!(others.is_exactly(&[]), "{options}: {moved}");
    // A duplicate SYN after the end of its connection creates another flow.
    let opened = moved.packets("eth0", "ingress", "new-flow");
    let connections = 2 * (u64::from(SHORT_CONNECTIONS) + SIMULTANEOUS_CLOSES + 1);
    assert!((connections..connections + connections / 20).contains(&opened), "{moved}");
    let counts = &path.counts;
    for (chance, count) in
        [(faults.lost, &counts.lost), (faults.twice, &counts.twice), (faults.late, &counts.late)]
    {
        assert!(chance == 0 || count.load(Ordering::Relaxed) > 100, "{counts:?}: too few faults");
    }
}

/// A request of a client. Everything in it follows from a number, which the client sends.
#[derive(Clone, Copy)]
struct Request {
    number: u32,
    /// Whether the server closes its direction before it reads the rest.
    server_ends_first: bool,
    /// Bytes from the client, after the number.
    up: u32,
    /// Bytes from the server.
    down: u32,
}

impl Request {
    fn new(number: u32) -> Self {
        // Some requests have no data in a direction.
        let length = |seed: u32| (seed * 7919 % 12_000).saturating_sub(1500);
        let server_ends_first = number % 2 == 1;
        Self { number, server_ends_first, up: length(number), down: length(number + 500) }
    }

    fn read(mut from: &TcpStream) -> io::Result<Self> {
        let mut number = [0; 4];
        from.read_exact(&mut number)?;
        Ok(Self::new(u32::from_be_bytes(number)))
    }
}

fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

fn read_all(mut from: &TcpStream, length: u32) -> io::Result<()> {
    let mut read = Vec::new();
    from.read_to_end(&mut read)?;
    if read == pattern(length) {
        return Ok(());
    }
    Err(io::Error::other(format!("{} bytes instead of {length}, or wrong ones", read.len())))
}

/// Sends data, and closes the direction.
fn write_all(mut to: &TcpStream, data: &[u8]) -> io::Result<()> {
    to.write_all(data)?;
    to.shutdown(Shutdown::Write)
}

/// The client closes first in half of the connections, the server in the other half; the other end
/// then still sends. Half of the connections of each kind have data on their SYN.
fn short_connections(server: &Namespace, client: &Namespace, end: SocketAddr) {
    // Errors of the server are ignored: a duplicate SYN with data may make two connections (RFC
    // 7413, section 6.1), of which the client resets the second.
    let served = Mutex::new(BTreeSet::new());
    let listener = server.run(|| TcpListener::bind(end)).unwrap();
    socket::set(&listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 1024);
    let accept_all = || {
        // Ends when the listener is shut down.
        while let Ok((stream, _)) = listener.accept() {
            if let Ok(number) = run_server(&stream) {
                served.lock().unwrap().insert(number);
            }
        }
    };
    let next = AtomicU32::new(0);
    let failures = Mutex::new(Vec::new());
    let [fast_open, ecn] = [AtomicU32::new(0), AtomicU32::new(0)];
    let client_worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SHORT_CONNECTIONS {
                break;
            }
            match run_client(end, number) {
                Ok(options) => {
                    let has = |option| u32::from(options & option != 0);
                    fast_open.fetch_add(has(TCPI_OPT_SYN_DATA), Ordering::Relaxed);
                    ecn.fetch_add(has(TCPI_OPT_ECN), Ordering::Relaxed);
                }
                Err(error) => failures.lock().unwrap().push(format!("{number}: {error}")),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(accept_all);
        }
        client.run(|| {
            thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(client_worker))));
        });
        let start = Instant::now();
        let all = usize::try_from(SHORT_CONNECTIONS).unwrap();
        while served.lock().unwrap().len() < all && start.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(5));
        }
        let listener = TcpStream::from(OwnedFd::from(listener.try_clone().unwrap()));
        listener.shutdown(Shutdown::Both).unwrap();
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{end}: {} failed: {failures:#?}", failures.len());
    let served = served.into_inner().unwrap();
    let missing: Vec<_> =
        (0..SHORT_CONNECTIONS).filter(|number| !served.contains(number)).collect();
    assert!(missing.is_empty(), "{end}: {missing:?} were not completed");
    // A retransmitted SYN has neither data nor ECN.
    let [fast_open, ecn] = [fast_open, ecn].map(AtomicU32::into_inner);
    assert!(
        fast_open > SHORT_CONNECTIONS / 4,
        "{end}: only {fast_open} connections began with data"
    );
    assert!(ecn > SHORT_CONNECTIONS * 3 / 4, "{end}: only {ecn} connections agreed on ECN");
}

const TCPI_OPT_ECN: u8 = 8;
const TCPI_OPT_SYN_DATA: u8 = 32;

fn run_client(server: SocketAddr, number: u32) -> io::Result<u8> {
    let request = Request::new(number);
    let stream = if number.is_multiple_of(4) || number % 4 == 3 {
        socket::connect_fast(server)?
    } else {
        TcpStream::connect_timeout(&server, LIMIT)?
    };
    stream.set_read_timeout(Some(LIMIT))?;
    let number_bytes = request.number.to_be_bytes();
    let data = pattern(request.up);
    if request.server_ends_first {
        (&stream).write_all(&number_bytes)?;
        read_all(&stream, request.down)?;
        write_all(&stream, &data)?;
    } else {
        write_all(&stream, &[&number_bytes, &*data].concat())?;
        read_all(&stream, request.down)?;
    }
    Ok(socket::tcp_options(&stream))
}

fn run_server(stream: &TcpStream) -> io::Result<u32> {
    stream.set_read_timeout(Some(LIMIT))?;
    let request = Request::read(stream)?;
    let data = pattern(request.down);
    if request.server_ends_first {
        write_all(stream, &data)?;
        read_all(stream, request.up)?;
    } else {
        read_all(stream, request.up)?;
        write_all(stream, &data)?;
    }
    Ok(request.number)
}

/// Both ends close their direction at the same time, so that their FINs cross.
fn simultaneous_closes(server: &Namespace, client: &Namespace, end: SocketAddr) {
    let listener = server.run(|| TcpListener::bind(end)).unwrap();
    let barrier = Barrier::new(2);
    let close_simultaneously = |stream: TcpStream| {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        (&stream).write_all(b"hello").unwrap();
        (&stream).read_exact(&mut [0; 5]).unwrap();
        barrier.wait();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&stream, 0).unwrap();
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..SIMULTANEOUS_CLOSES)
                .for_each(|_| close_simultaneously(listener.accept().unwrap().0));
        });
        (0..SIMULTANEOUS_CLOSES)
            .for_each(|_| close_simultaneously(tcp::connect(client, end).unwrap()));
    });
}

fn long_connection(server: &Namespace, client: &Namespace, end: SocketAddr) {
    let echo = TcpServer::echo(server, end);
    let data = pattern(u32::try_from(LONG_CONNECTION_BYTES).unwrap());
    tcp::exchange(&mut tcp::connect(client, echo.address()).unwrap(), &data).unwrap();
}
