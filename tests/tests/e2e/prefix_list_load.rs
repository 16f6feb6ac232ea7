//! A prefix list of thousands is replaced by a file under traffic: what both files have is never dropped, what
//! neither has never passes, and the rest follows the file.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Pair, Secgroup};

use crate::support::StopOnDrop;

const PORT: u16 = 7000;
/// Networks in each file besides those of the clients.
const NETWORKS: u16 = 4000;
const LOADS: usize = 12;
const CONFIG: &str = "[limits]\nentries_per_prefix_list = 10000\nrules_per_group = 10000\n\
    groups_per_interface = 1\nrules_per_interface = 10000\n\
    [maps]\nflows_new = 4096\nflows_udp = 1024\nflows_tcp = 1024\nrules = 4096\ninterfaces = 8\n";

/// Enough to see that a packet is dropped.
const SOON: Duration = Duration::from_millis(200);

/// The client's addresses of one family: in both files, in the first, in the second, in none.
struct Sources {
    always: IpAddr,
    in_turn: [IpAddr; 2],
    never: IpAddr,
}

impl Sources {
    fn new(always: IpAddr) -> Self {
        let other = |last: u8| match always {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                IpAddr::from([a, b, c, last])
            }
            IpAddr::V6(v6) => {
                let mut segments = v6.segments();
                segments[7] = last.into();
                IpAddr::from(segments)
            }
        };
        Self { always, in_turn: [other(4), other(5)], never: other(6) }
    }

    /// A file as public lists are: comments, bare addresses, networks in any order.
    fn file(&self, which: usize) -> String {
        let mut text = String::from("; a list\r\n\r\n");
        for number in (0..NETWORKS).rev() {
            let [high, low] = number.to_be_bytes();
            let other = u16::try_from(which).unwrap();
            let _ = match self.always {
                IpAddr::V4(_) => {
                    write!(text, "198.{}.{high}.{low} ; SBL{number}\r\n", 18 + other)
                }
                IpAddr::V6(_) => {
                    write!(text, "2001:db8:{other:x}:{number:x}::/64 # {number}\r\n")
                }
            };
        }
        let _ = write!(text, "{}\r\n{}\r\n", self.in_turn[which], self.always);
        text
    }
}

/// Whether a datagram from an address is answered, from a port that no other one came from.
fn is_answered(net: &Pair, source: IpAddr, to: SocketAddr, limit: Duration) -> bool {
    let socket = udp::bind(&net.client, SocketAddr::new(source, 0));
    net.client.run(|| socket.connect(to)).unwrap();
    udp::is_echoed(&socket, limit)
}

#[test]
fn a_file_of_thousands_replaces_a_list_as_one_change() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(CONFIG);
    secgroup.ok("group create web --description x");
    let sources = Pair::CLIENT.map(Sources::new);
    let ends = at(Pair::SERVER, PORT);
    let names = ["four", "six"];
    let path = |family: usize, which: usize| {
        secgroup.state_dir().with_file_name(format!("{}-{which}.txt", names[family]))
    };
    for (family, of) in sources.iter().enumerate() {
        let length = if of.always.is_ipv4() { 24 } else { 64 };
        for address in of.in_turn.iter().chain([&of.never]) {
            net.client.ip(&format!("addr add {address}/{length} dev eth0 nodad"));
        }
        for which in [0, 1] {
            fs::write(path(family, which), of.file(which)).unwrap();
        }
        let name = names[family];
        secgroup.ok(&format!("prefix-list load {name} {} --create", path(family, 0).display()));
        secgroup
            .ok(&format!("rule add web ingress --protocol udp --port {PORT} --prefix-list {name}"));
    }
    secgroup.ok("attach eth0 --group web");
    let _servers = ends.map(|end| UdpEcho::start(&net.server, end));

    let stop = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let denied = AtomicU64::new(0);
    thread::scope(|scope| {
        let (net, stop, answered, denied) = (&net, &stop, &answered, &denied);
        for (of, end) in sources.iter().zip(ends) {
            scope.spawn(move || {
                let _stop = StopOnDrop(stop);
                while !stop.load(Ordering::Relaxed) {
                    assert!(is_answered(net, of.always, end, MAX_WAIT), "{} is lost", of.always);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                let _stop = StopOnDrop(stop);
                let socket: UdpSocket = udp::bind(&net.client, SocketAddr::new(of.never, 0));
                net.client.run(|| socket.connect(end)).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let is_echoed = udp::is_echoed(&socket, Duration::from_millis(1));
                    assert!(!is_echoed, "{} passes", of.never);
                    denied.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = StopOnDrop(stop);
        for load in 1..=LOADS {
            let which = load % 2;
            for family in [0, 1] {
                let (name, file) = (names[family], path(family, which));
                let done = secgroup.ok(&format!("prefix-list load {name} {}", file.display()));
                let all = NETWORKS + 1;
                let expected = format!("{name}: {all} added, {all} removed, 1 unchanged\n");
                assert!(done.ends_with(&expected), "{done}");
                let (of, end) = (&sources[family], ends[family]);
                assert!(is_answered(net, of.in_turn[which], end, MAX_WAIT), "load {load}");
                assert!(!is_answered(net, of.in_turn[1 - which], end, SOON), "load {load}");
            }
        }
    });
    let (answered, denied) = (answered.into_inner(), denied.into_inner());
    assert!(answered > 50 && denied > 50, "{answered} and {denied}: too little traffic");

    // An unconfirmed change is undone with all its entries.
    let (of, end) = (&sources[0], ends[0]);
    secgroup.ok(&format!("prefix-list load four {} --confirm 5m", path(0, 1).display()));
    assert!(is_answered(&net, of.in_turn[1], end, MAX_WAIT));
    secgroup.ok("rollback");
    assert!(is_answered(&net, of.in_turn[0], end, MAX_WAIT));
    let unchanged = format!("four: 0 added, 0 removed, {} unchanged\n", NETWORKS + 2);
    assert_eq!(
        secgroup.ok(&format!("prefix-list load four {}", path(0, 0).display())),
        format!("prefix-list {unchanged}")
    );
}
