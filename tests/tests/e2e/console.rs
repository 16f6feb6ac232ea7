//! The console, in a browser and by requests of its own.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::{env, fs};

use secgroup_tests::notify::Notify;
use secgroup_tests::tcp::TcpServer;
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, Process, Secgroup, browser, root, tc_hook, tcp};

const ADDRESS: &str = "127.0.0.1:9912";

fn serve(secgroup: &Secgroup<'_>, address: &str) -> Process {
    let line = format!("serve --metrics 127.0.0.1:0 --console {address}");
    Notify::new().start(secgroup.command(line.split_whitespace()))
}

/// An answer to a request of these lines.
fn ask(host: &Namespace, head: &str) -> String {
    let address: SocketAddr = ADDRESS.parse().unwrap();
    let mut stream = tcp::connect(host, address).unwrap();
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(host: &Namespace, path: &str) -> String {
    ask(host, &format!("GET {path} HTTP/1.1\nHost: {ADDRESS}\nConnection: close\n\n"))
}

#[test]
fn a_browser_shows_what_happens() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 443 --cidr 10.77.0.0/24");
    // AWS allows these characters in a name.
    secgroup.ok_with(["group", "create", "a &lt;i&gt; &amp;", "--description", "x"]);
    secgroup.ok_with([
        "rule",
        "add",
        "a &lt;i&gt; &amp;",
        "ingress",
        "--protocol",
        "udp",
        "--port",
        "53",
        "--cidr",
        "10.77.0.0/24",
    ]);
    secgroup.ok(&format!("attach eth0 --group web --hook {}", tc_hook()));
    // A device may have any name without a slash, a colon or a space.
    net.server.ip("link add <i>&\"x' type veth peer name other");
    net.server.ip("link set <i>&\"x' up");
    secgroup.ok_with([
        "attach",
        "<i>&\"x'",
        "--group",
        "web",
        "--mode",
        "audit",
        "--hook",
        tc_hook(),
    ]);
    let https = TcpServer::echo(&net.server, "10.77.0.1:443".parse().unwrap());
    let connection = tcp::connect(&net.client, https.address()).unwrap();

    let _serve = serve(&secgroup, ADDRESS);
    let drop_one = |port: u16| {
        let to = SocketAddr::new([10, 77, 0, 1].into(), port);
        assert!(!tcp::reaches(&net.client, to));
    };
    // What is dropped before the process collects is in no record.
    wait_until(MAX_WAIT, "a record", || {
        drop_one(7443);
        secgroup.ok("drops --since 1h --output json").contains("7443")
    });
    let pictures = env::var_os("SECGROUP_WRITE_DOCS").map(|_| root().join("docs/images"));
    let pictures = pictures.map(|path| path.display().to_string());
    let base = format!("http://{ADDRESS}/");
    let arguments: Vec<&str> = [base.as_str()].into_iter().chain(pictures.as_deref()).collect();
    let lines = browser::run(&net.server, "console.mjs", &arguments, |what| {
        let port = what.strip_prefix("drop ").and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("unknown act {what}"));
        drop_one(port);
    });
    eprintln!("{}", lines.join("\n"));
    drop(connection);
    if env::var_os("SECGROUP_WRITE_DOCS").is_some() {
        for name in ["console-overview.png", "console-drops.png", "console-explain.png"] {
            let size = fs::metadata(root().join("docs/images").join(name)).unwrap().len();
            assert!(size < 150 << 10, "{name} has {size} bytes");
        }
    }
}

#[test]
fn a_request_that_is_not_of_this_host_and_its_pages_is_refused() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let _serve = serve(&secgroup, ADDRESS);
    for (lines, status) in [
        ("GET / HTTP/1.1\nHost: 127.0.0.1:9912\nConnection: close\n\n", 200),
        ("GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n", 200),
        ("GET / HTTP/1.1\nHost: rebound.example.com\nConnection: close\n\n", 403),
        ("GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site\nConnection: close\n\n", 403),
        ("GET / HTTP/1.1\nHost: localhost\nOrigin: http://example.com\nConnection: close\n\n", 403),
        ("POST / HTTP/1.1\nHost: localhost\nContent-Length: 0\nConnection: close\n\n", 405),
        ("OPTIONS / HTTP/1.1\nHost: localhost\nConnection: close\n\n", 405),
    ] {
        let answer = ask(&host, lines);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{lines}{answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
        assert!(!answer.contains("access-control"), "{answer}");
    }
    let head = ask(&host, "HEAD / HTTP/1.1\nHost: localhost\nConnection: close\n\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("<html"), "{head}");
}

#[test]
fn documents_are_those_of_commands() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 443 --cidr 10.77.0.0/24");
    secgroup.ok(&format!("attach eth0 --group web --hook {}", tc_hook()));
    let _serve = serve(&secgroup, ADDRESS);
    for (path, line) in [
        ("/status.json", "status"),
        ("/stats.json", "stats"),
        ("/flows.json", "flows list"),
        ("/rules.json", "rule list"),
        (
            "/explain.json?interface=eth0&direction=ingress&protocol=tcp&source=10.77.0.2&destination=10.77.0.1:443",
            "explain eth0 ingress tcp 10.77.0.2 10.77.0.1:443",
        ),
    ] {
        let answer = get(&net.server, path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        let printed = secgroup.ok(&format!("{line} --output json"));
        assert_eq!(body, printed, "{path}");
    }
}

#[test]
fn it_listens_on_a_unix_socket_and_not_for_other_hosts() {
    let host = Namespace::new();
    host.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    let secgroup = Secgroup::inside(&host);
    let socket = secgroup.state_dir().join("console.sock");
    secgroup.ok("group create web --description x");
    let refused = secgroup.refused("serve --console 0.0.0.0:9912", 2);
    assert!(refused.contains("--console 0.0.0.0:9912") && refused.contains("ssh -L"), "{refused}");
    let _serve = serve(&secgroup, &format!("unix:{}", socket.display()));
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: firewall.example.com\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("<h1>Overview</h1>"),
        "{answer}"
    );
}
