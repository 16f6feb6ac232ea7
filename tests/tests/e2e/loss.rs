//! TCP over a path that loses, repeats and reorders frames: secgroup drops nothing of it.

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

/// What `attach` is told about TCP, what happens to frames, and the reasons for which some that are
/// late or come twice may be dropped: whoever sent them has sent them again, or is gone.
const MODES: [(&str, Faults, &[&str]); 2] =
    [("", BAD, &[]), ("--tcp strict", BAD, &["tcp-window", "tcp-reset"])];

/// A path that does everything to frames.
const BAD: Faults = Faults {
    lost: 10,
    twice: 20,
    late: 50,
    delay: Duration::from_millis(1),
    max_jitter: Duration::from_millis(15),
};

/// How long a connection may be silent. After SYN-ACKs that were lost a Linux server with early
/// data waits 8 s before it sends lost data again.
const LIMIT: Duration = Duration::from_secs(30);

/// Short connections of a family.
const SHORT: u32 = 1000;
/// At the same time.
const PARALLEL: u32 = 50;
/// Connections that both ends end at the same time.
const CROSSED: u64 = 50;
/// Bytes each way of a long connection.
const LONG: usize = 3 << 20;

const LINGER: Duration = Duration::from_millis(300);

#[test]
fn every_connection_over_a_bad_path_completes_through_tcx() {
    story(tc_hook());
}

#[test]
fn every_connection_over_a_bad_path_completes_through_xdp() {
    story("xdp");
}

fn story(hook: &str) {
    for (option, faults, may_drop) in MODES {
        over_a_path(&format!("--hook {hook} {option}"), faults, may_drop);
    }
}

fn over_a_path(how: &str, faults: Faults, may_drop: &[&str]) {
    let path = Path::new(faults);
    let Pair { server, client } = &path.pair;
    for namespace in [server, client] {
        namespace.sysctl("net.ipv4.tcp_ecn", "1");
        namespace.sysctl("net.ipv4.tcp_fastopen", "3");
    }
    let secgroup = Secgroup::inside(server);
    secgroup.configure("[maps]\nflows_new = 8192\nflows_proven = 8192\ninterfaces = 2\n");
    secgroup.ok("group create web --description x");
    secgroup.ok(
        "rule add web ingress --protocol tcp --port 80-82 --cidr 10.77.0.0/24 --cidr fd77::/64",
    );
    // Only flows let anything out.
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("attach eth0 --group web {how}"));

    let before = secgroup.counters();
    let complete = thread::scope(|scope| {
        let families = Pair::SERVER.map(|address| {
            // A port of its own for each: a child that was just forked keeps a listener for a moment.
            let [short, crossed, long] = [80, 81, 82].map(|port| SocketAddr::new(address, port));
            scope.spawn(move || {
                short_connections(server, client, short);
                ends_that_cross(server, client, crossed);
                long_connection(server, client, long);
            })
        });
        families.map(|family| family.join().is_ok()) == [true; 2]
    });
    assert!(complete, "{how}: not all are complete: {}", secgroup.counters().since(&before));
    // What is late belongs to it, and what was lost at the very end is sent again.
    wait_for_quiet(LINGER, "the last segments", || secgroup.counters());
    let moved = secgroup.counters().since(&before);
    let allowed = ["established", "new-flow"].iter().chain(may_drop);
    let others = allowed.fold(moved.clone(), |moved, reason| moved.without(reason));
    assert!(others.is_exactly(&[]), "{how}: {moved}");
    // A SYN that comes a second time, when its connection is over, opens a flow for another.
    let opened = moved.packets("eth0", "ingress", "new-flow");
    let connections = 2 * (u64::from(SHORT) + CROSSED + 1);
    assert!((connections..connections + connections / 20).contains(&opened), "{moved}");
    let tally = &path.counts;
    for (chance, count) in
        [(faults.lost, &tally.lost), (faults.twice, &tally.twice), (faults.late, &tally.late)]
    {
        assert!(chance == 0 || count.load(Ordering::Relaxed) > 100, "{tally:?} is no bad path");
    }
}

/// What a client asks for: all of it follows from a number, which it sends.
#[derive(Clone, Copy)]
struct Request {
    number: u32,
    /// Whether the server ends its direction before it reads on.
    server_ends_first: bool,
    /// Bytes from the client, behind the number.
    up: u32,
    /// Bytes from the server.
    down: u32,
}

impl Request {
    fn new(number: u32) -> Self {
        // Some have nothing at all in a direction.
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
    Err(io::Error::other(format!("{} bytes of {length}, or others", read.len())))
}

/// Sends, and ends the direction.
fn write_all(mut to: &TcpStream, data: &[u8]) -> io::Result<()> {
    to.write_all(data)?;
    to.shutdown(Shutdown::Write)
}

/// Half of the connections are ended by the client, half by the server; the other end goes on
/// sending for a while. Half of either have data on their SYN.
fn short_connections(server: &Namespace, client: &Namespace, end: SocketAddr) {
    // What a server makes of a connection is for the list of those served: of a SYN with data that
    // comes twice it may make two (RFC 7413, section 6.1), and the client resets the second.
    let served = Mutex::new(BTreeSet::new());
    let listener = server.run(|| TcpListener::bind(end)).unwrap();
    socket::set(&listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 1024);
    let serve_all = || {
        // Ends when the listener is shut down.
        while let Ok((stream, _)) = listener.accept() {
            if let Ok(number) = serve(&stream) {
                served.lock().unwrap().insert(number);
            }
        }
    };
    let next = AtomicU32::new(0);
    let failures = Mutex::new(Vec::new());
    let [fast, ecn] = [AtomicU32::new(0), AtomicU32::new(0)];
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SHORT {
                break;
            }
            match ask(end, number) {
                Ok(options) => {
                    let has = |option| u32::from(options & option != 0);
                    fast.fetch_add(has(TCPI_OPT_SYN_DATA), Ordering::Relaxed);
                    ecn.fetch_add(has(TCPI_OPT_ECN), Ordering::Relaxed);
                }
                Err(error) => failures.lock().unwrap().push(format!("{number}: {error}")),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(serve_all);
        }
        client.run(|| thread::scope(|scope| (0..PARALLEL).for_each(|_| drop(scope.spawn(work)))));
        let start = Instant::now();
        let all = usize::try_from(SHORT).unwrap();
        while served.lock().unwrap().len() < all && start.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(5));
        }
        let listener = TcpStream::from(OwnedFd::from(listener.try_clone().unwrap()));
        listener.shutdown(Shutdown::Both).unwrap();
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{end}: {} failed: {failures:#?}", failures.len());
    let served = served.into_inner().unwrap();
    let missing: Vec<_> = (0..SHORT).filter(|number| !served.contains(number)).collect();
    assert!(missing.is_empty(), "{end}: {missing:?} were not served to the end");
    // A SYN that was lost is sent again without either.
    let [fast, ecn] = [fast, ecn].map(AtomicU32::into_inner);
    assert!(fast > SHORT / 4, "{end}: only {fast} connections began with data");
    assert!(ecn > SHORT * 3 / 4, "{end}: only {ecn} connections agreed on ECN");
}

const TCPI_OPT_ECN: u8 = 8;
const TCPI_OPT_SYN_DATA: u8 = 32;

fn ask(server: SocketAddr, number: u32) -> io::Result<u8> {
    let request = Request::new(number);
    let stream = if number.is_multiple_of(4) || number % 4 == 3 {
        socket::connect_fast(server)?
    } else {
        TcpStream::connect_timeout(&server, LIMIT)?
    };
    stream.set_read_timeout(Some(LIMIT))?;
    let head = request.number.to_be_bytes();
    let data = pattern(request.up);
    if request.server_ends_first {
        (&stream).write_all(&head)?;
        read_all(&stream, request.down)?;
        write_all(&stream, &data)?;
    } else {
        write_all(&stream, &[&head, &*data].concat())?;
        read_all(&stream, request.down)?;
    }
    Ok(socket::tcp_options(&stream))
}

fn serve(stream: &TcpStream) -> io::Result<u32> {
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

/// Both ends end their direction in the same moment: each FIN passes the other on the way.
fn ends_that_cross(server: &Namespace, client: &Namespace, end: SocketAddr) {
    let listener = server.run(|| TcpListener::bind(end)).unwrap();
    let moment = Barrier::new(2);
    let speak = |stream: TcpStream| {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        (&stream).write_all(b"hello").unwrap();
        (&stream).read_exact(&mut [0; 5]).unwrap();
        moment.wait();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&stream, 0).unwrap();
    };
    thread::scope(|scope| {
        scope.spawn(|| (0..CROSSED).for_each(|_| speak(listener.accept().unwrap().0)));
        (0..CROSSED).for_each(|_| speak(tcp::connect(client, end).unwrap()));
    });
}

fn long_connection(server: &Namespace, client: &Namespace, end: SocketAddr) {
    let echo = TcpServer::echo(server, end);
    let data = pattern(u32::try_from(LONG).unwrap());
    tcp::exchange(&mut tcp::connect(client, echo.address()).unwrap(), &data).unwrap();
}
