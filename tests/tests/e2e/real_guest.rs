//! A guest with a kernel of its own, under qemu: virtio-net on a tap of its host.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use secgroup_tests::http::get_any_status;
use secgroup_tests::network::{End, at, join};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::UdpEcho;
use secgroup_tests::{Counters, Guest, Namespace, Secgroup, tc_hook};

/// The host's device, which qemu opens.
const TAP: &str = Guest::DEVICE;

/// For the start of a kernel and each command under emulation.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// The line that ends the output of a command, before its exit code.
const ENDED: &str = "guest: ended with ";

/// A running guest, killed when this is dropped.
struct Machine {
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Machine {
    fn start(host: &Namespace) -> Self {
        let script = secgroup_tests::root().join("target/kernels/guest");
        assert!(script.exists(), "no {}: run the test by `cargo xtask test`", script.display());
        let mut command: Command = host.command(script.to_str().unwrap());
        command
            .args(["-netdev", &format!("tap,id=net,ifname={TAP},script=no,downscript=no")])
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut qemu = command.spawn().unwrap();
        let (input, output) = (qemu.stdin.take().unwrap(), qemu.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let machine = Self { qemu, input, lines };
        machine.lines_until("guest: ready");
        machine
    }

    /// Runs a command in the guest; returns its output, and whether it succeeded.
    fn run(&mut self, command: &str) -> (String, bool) {
        writeln!(self.input, "{command}").unwrap();
        let (output, end) = self.lines_until(ENDED);
        (output, end == format!("{ENDED}0"))
    }

    /// The lines before the one that starts with `end`, and that line.
    fn lines_until(&self, end: &str) -> (String, String) {
        let deadline = Instant::now() + MAX_WAIT;
        let mut output = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("the guest did not print {end}: {output}"));
            if line.starts_with(end) {
                return (output, line);
            }
            output.push_str(&line);
            output.push('\n');
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The host and the network beyond it; the guest's tap exists and has nobody at its other end.
fn networks() -> (Namespace, Namespace) {
    let (host, outside) = (Namespace::new(), Namespace::new());
    host.sysctl("net.ipv4.ip_forward", "1");
    host.sysctl("net.ipv6.conf.all.forwarding", "1");
    join([
        End { namespace: &outside, device: "eth0", addresses: &["10.79.0.2/24", "fd79::2/64"] },
        End { namespace: &host, device: "wan0", addresses: &["10.79.0.1/24", "fd79::1/64"] },
    ]);
    outside.ip("route add default via 10.79.0.1");
    outside.ip("-6 route add default via fd79::1");
    host.ip(&format!("tuntap add {TAP} mode tap vnet_hdr"));
    host.ip(&format!("address add 10.78.0.1/24 dev {TAP}"));
    host.ip(&format!("address add fd78::1/64 dev {TAP} nodad"));
    host.ip(&format!("link set {TAP} up"));
    (host, outside)
}

/// Serves one page over HTTP.
fn web_server(namespace: &Namespace, address: SocketAddr) -> TcpServer {
    TcpServer::start(namespace, address, |mut stream| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            request.extend(byte);
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 16\r\n\r\nfrom the server\n")
    })
}

/// The counters that `work` increases, without those of packets over flows and of the link.
fn counted<T>(secgroup: &Secgroup<'_>, work: impl FnOnce() -> T) -> (T, Counters) {
    let before = secgroup.counters();
    let result = work();
    let increased = secgroup.counters().since(&before);
    (result, increased.without("established").without("multicast-membership"))
}

/// A command that prints a page and fails without a connection.
fn get(address: IpAddr, port: u16, seconds: u32) -> String {
    let request = r#"printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3"#;
    format!("timeout {seconds} bash -c 'exec 3<>/dev/tcp/{address}/{port} && {request}'")
}

#[test]
fn a_guest_of_qemu_opens_and_gets_what_its_groups_allow() {
    let (host, outside) = networks();
    let secgroup = Secgroup::inside(&host);
    secgroup.ok("group create vm --description x");
    secgroup.ok("rule remove vm egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let beyond = "--cidr 10.79.0.0/24 --cidr fd79::/64";
    for rule in ["ingress --protocol tcp --port 80", "egress --protocol tcp --port 80"] {
        secgroup.ok(&format!("rule add vm {rule} {beyond}"));
    }
    secgroup.ok(&format!("rule add vm egress --protocol udp --port 53 {beyond}"));
    let hook = tc_hook();
    let [v4, v6] = Guest::GUEST;
    let options = format!("--hook {hook} --address {v4} --address {v6}");
    secgroup.ok(&format!("attach {TAP} --group vm --orientation guest {options}"));
    let ends = Guest::OUTSIDE;
    let _servers = [80, 81].map(|port| at(ends, port).map(|end| web_server(&outside, end)));
    let _echoes = at(ends, 53).map(|end| UdpEcho::start(&outside, end));
    let mut guest = Machine::start(&host);

    for (inside, beyond) in Guest::GUEST.into_iter().zip(ends) {
        // Out, to a port that is allowed and to one that is not.
        let ((page, succeeded), increased) = counted(&secgroup, || guest.run(&get(beyond, 80, 60)));
        assert!(succeeded && page.contains("from the server"), "{beyond}: {page}");
        assert!(increased.is_exactly(&[(TAP, "egress", "new-flow", 1)]), "{increased}");
        let ((output, succeeded), increased) =
            counted(&secgroup, || guest.run(&get(beyond, 81, 2)));
        assert!(!succeeded, "{beyond}: {output}");
        let dropped = increased.packets(TAP, "egress", "no-rule");
        assert!(increased.is_exactly(&[(TAP, "egress", "no-rule", dropped)]), "{increased}");
        assert!(dropped > 0, "{beyond}: the guest sent nothing");

        let ask = format!("exec 3<>/dev/udp/{beyond}/53; echo question >&3; head -n 1 <&3");
        let ((answer, _), increased) =
            counted(&secgroup, || guest.run(&format!("timeout 60 bash -c '{ask}'")));
        assert_eq!(answer, "question\n", "{beyond}");
        assert!(increased.is_exactly(&[(TAP, "egress", "new-flow", 1)]), "{increased}");

        // In.
        let ((status, page), increased) = counted(&secgroup, || {
            get_any_status(&outside, SocketAddr::new(inside, 80), "/").unwrap()
        });
        assert_eq!((status, page.as_str()), (200, "served by the guest\n"), "{inside}");
        assert!(increased.is_exactly(&[(TAP, "ingress", "new-flow", 1)]), "{increased}");
        let ((), increased) = counted(&secgroup, || {
            assert!(!tcp::reaches(&outside, SocketAddr::new(inside, 81)), "{inside}");
        });
        assert!(increased.is_exactly(&[(TAP, "ingress", "no-rule", 1)]), "{increased}");
    }

    // From addresses that are not its own.
    secgroup.ok("rule add vm egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    for (foreign, beyond) in [("10.78.0.66/24", ends[0]), ("fd78::66/64", ends[1])] {
        let (output, succeeded) = guest.run(&format!("ip addr add {foreign} dev eth0"));
        assert!(succeeded, "{output}");
        let source = foreign.split('/').next().unwrap();
        let ping = format!("ping -c 1 -W 2 -I {source} {beyond}");
        let ((output, succeeded), increased) = counted(&secgroup, || guest.run(&ping));
        assert!(!succeeded, "{output}");
        assert!(increased.packets(TAP, "egress", "source-address") > 0, "{output}{increased}");
        assert_eq!(increased.packets(TAP, "egress", "new-flow"), 0, "{increased}");
    }
}
