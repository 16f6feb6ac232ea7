//! Network ACLs as the documents of AWS describe them: a web server with ephemeral ports, and deny before allow.

use std::net::{IpAddr, SocketAddr};

use secgroup_tests::http::{HttpServer, PAGE, get};
use secgroup_tests::network::at;
use secgroup_tests::ping::ping;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup, tc_hook};

use crate::support::metric;

/// All addresses, and an address of each family that no host of these tests has.
const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
const ELSEWHERE: [&str; 2] = ["198.51.100.7/32", "2001:db8::7/128"];

/// A web server as AWS's documents protect it; its groups would let every port in.
struct WebServer<'a> {
    secgroup: Secgroup<'a>,
    acl: String,
}

/// The network of one address.
fn only(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

impl<'a> WebServer<'a> {
    fn new(net: &'a Pair, hook: &str) -> Self {
        let secgroup = Secgroup::inside(&net.server);
        secgroup.ok("group create open --description x");
        secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
        secgroup.ok(&format!("attach eth0 --group open --hook {hook} --tracking always"));
        let acl = secgroup.ok("acl create web").trim().to_owned();
        let server = Self { secgroup, acl };
        for (family, (anywhere, home)) in ANYWHERE.into_iter().zip(ELSEWHERE).enumerate() {
            for (direction, number, ports, cidr) in [
                ("ingress", 100, "80", anywhere),
                ("ingress", 110, "443", anywhere),
                ("ingress", 120, "22", home),
                ("ingress", 140, "32768-65535", anywhere),
                ("egress", 100, "80", anywhere),
                ("egress", 110, "443", anywhere),
                ("egress", 140, "32768-65535", anywhere),
            ] {
                // The entries for IPv6 have the next numbers, as AWS numbers them.
                let place = format!("{direction} {}", number + family);
                server.entry(
                    "add",
                    &format!("{place} allow --protocol tcp --port {ports} --cidr {cidr}"),
                );
            }
        }
        server.secgroup.ok("acl associate web eth0");
        server
    }

    fn entry(&self, what: &str, entry: &str) {
        self.secgroup.ok(&format!("acl entry {what} web {entry}"));
    }

    /// Packets that an entry has counted.
    fn packets(&self, direction: &str, entry: usize, action: &str) -> u64 {
        let acl = &self.acl;
        let labels = format!(
            "acl=\"{acl}\",direction=\"{direction}\",entry=\"{entry}\",action=\"{action}\""
        );
        let text = self.secgroup.ok("metrics");
        metric(&text, &format!("secgroup_acl_packets_total{{{labels}}}"))
    }

    /// Runs `work`; returns by how much the counter of an entry has grown.
    fn counted<T>(
        &self,
        (direction, entry, action): (&str, usize, &str),
        work: impl FnOnce() -> T,
    ) -> (u64, T) {
        let before = self.packets(direction, entry, action);
        let value = work();
        (self.packets(direction, entry, action) - before, value)
    }

    /// Asserts that a connection is dropped: its SYN by the last entry.
    fn refuses(&self, net: &Pair, end: SocketAddr, family: usize) {
        let last = ("ingress", 32_767 + family, "deny");
        let (dropped, reached) = self.counted(last, || tcp::reaches(&net.client, end));
        assert!(!reached, "{end}: {}", self.secgroup.view());
        assert_eq!(dropped, 1, "{end}: {}", self.secgroup.ok("acl show web"));
    }
}

fn web_server_with_ephemeral_ports(hook: &str) {
    let net = Pair::new();
    let server = WebServer::new(&net, hook);
    for (family, (end, client)) in Pair::SERVER.into_iter().zip(Pair::CLIENT).enumerate() {
        let _others =
            [443, 22, 8080].map(|port| TcpServer::echo(&net.server, SocketAddr::new(end, port)));

        // Clients reach the web server, and its replies go to their ephemeral ports.
        let web = HttpServer::start(&net.server, SocketAddr::new(end, 80));
        let request = ("ingress", 100 + family, "allow");
        let reply = ("egress", 140 + family, "allow");
        let (replies, (requests, page)) = server.counted(reply, || {
            server.counted(request, || get(&net.client, web.address(), "/").unwrap())
        });
        assert_eq!(page, PAGE);
        assert!(requests >= 1 && replies >= 1, "{}", server.secgroup.ok("acl show web"));
        assert!(tcp::reaches(&net.client, SocketAddr::new(end, 443)));

        // What no entry allows is denied by the last one, whatever the groups allow.
        server.refuses(&net, SocketAddr::new(end, 8080), family);
        assert!(!ping(&net.client, end));

        // SSH from home alone.
        let ssh = SocketAddr::new(end, 22);
        server.refuses(&net, ssh, family);
        let home = only(client);
        let entry = format!("ingress {} allow --protocol tcp --port 22", 120 + family);
        server.entry("replace", &format!("{entry} --cidr {home}"));
        assert!(tcp::reaches(&net.client, ssh), "{}", server.secgroup.view());

        // The server fetches from others, by the entries for their ports and its own ephemeral ones.
        let other = HttpServer::start(&net.client, SocketAddr::new(client, 80));
        let (own, page) = server.counted(("ingress", 140 + family, "allow"), || {
            get(&net.server, other.address(), "/").unwrap()
        });
        assert_eq!(page, PAGE);
        assert!(own >= 1, "{}", server.secgroup.ok("acl show web"));
        let _closed = TcpServer::echo(&net.client, SocketAddr::new(client, 8080));
        let before = server.packets("egress", 32_767 + family, "deny");
        assert!(!tcp::reaches(&net.server, SocketAddr::new(client, 8080)));
        assert_eq!(server.packets("egress", 32_767 + family, "deny") - before, 1);

        // Stateless: a client whose system chooses other ports sends, and gets no reply.
        net.client.sysctl("net.ipv4.ip_local_port_range", "20000 20100");
        let unanswered = ("egress", 32_767 + family, "deny");
        let (dropped, reached) =
            server.counted(unanswered, || tcp::reaches(&net.client, web.address()));
        assert!(!reached && dropped >= 1, "{}", server.secgroup.ok("acl show web"));
        let place = format!("egress {}", 150 + family);
        let wide = format!("{place} allow --protocol tcp --port 1024-65535");
        server.entry("add", &format!("{wide} --cidr {}", ANYWHERE[family]));
        assert!(tcp::reaches(&net.client, web.address()), "{}", server.secgroup.view());
        server.entry("remove", &place);
        net.client.sysctl("net.ipv4.ip_local_port_range", "32768 60999");
    }
}

#[test]
fn the_web_server_of_the_aws_documents_serves_by_its_ephemeral_ports_at_tc() {
    web_server_with_ephemeral_ports(tc_hook());
}

#[test]
fn the_web_server_of_the_aws_documents_serves_by_its_ephemeral_ports_at_xdp() {
    web_server_with_ephemeral_ports("xdp");
}

#[test]
fn the_entry_with_the_lowest_number_decides() {
    let net = Pair::new();
    let server = WebServer::new(&net, tc_hook());
    let lists = ["ipv4", "ipv6"].map(|family| format!("bad-{family}"));
    for (family, list) in ["ipv4", "ipv6"].into_iter().zip(&lists) {
        server.secgroup.ok(&format!("prefix-list create {list} --family {family}"));
    }
    for (family, end) in at(Pair::SERVER, 80).into_iter().enumerate() {
        let (client, web) = (only(Pair::CLIENT[family]), HttpServer::start(&net.server, end));
        let deny = |number: usize, peer: &str| {
            format!("ingress {number} deny --protocol tcp --port 80 {peer}")
        };
        // After the entry that allows it decides nothing.
        server.entry("add", &deny(130 + family, &format!("--cidr {client}")));
        assert_eq!(get(&net.client, end, "/").unwrap(), PAGE);
        assert_eq!(server.packets("ingress", 130 + family, "deny"), 0);

        // Before it, it denies, and is the one that counts.
        server.entry("add", &deny(90 + family, &format!("--cidr {client}")));
        let (denied, reached) = server.counted(("ingress", 90 + family, "deny"), || {
            server
                .secgroup
                .moved(&[("eth0", "ingress", "acl", 1)], || tcp::reaches(&net.client, end))
        });
        assert!(!reached);
        assert_eq!(denied, 1);
        assert_eq!(server.packets("ingress", 130 + family, "deny"), 0);

        // An exception before the exception.
        let allow = format!("ingress {} allow --protocol tcp --port 80", 80 + family);
        server.entry("add", &format!("{allow} --cidr {client}"));
        assert!(tcp::reaches(&net.client, end), "{}", server.secgroup.view());
        server.entry("remove", &format!("ingress {}", 80 + family));
        assert!(!tcp::reaches(&net.client, end));
        server.entry("remove", &format!("ingress {}", 90 + family));
        assert!(tcp::reaches(&net.client, end));

        // A prefix list, whose entries change meanwhile.
        server.entry("add", &deny(90 + family, &format!("--prefix-list {}", lists[family])));
        assert!(tcp::reaches(&net.client, end));
        server.secgroup.ok(&format!("prefix-list add {} --entry {client}", lists[family]));
        assert!(!tcp::reaches(&net.client, end));
        server.secgroup.ok(&format!("prefix-list remove {} --entry {client}", lists[family]));
        assert!(tcp::reaches(&net.client, end));
        drop(web);
    }
}

#[test]
fn groups_and_acls_of_one_document_take_effect_together() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("acl create web");
    secgroup.ok(&format!("attach eth0 --group web --acl web --hook {}", tc_hook()));
    let status = secgroup.status();
    assert_eq!(status["NetworkInterfaces"][0]["NetworkAcl"]["NetworkAclName"], "web");
    let [one, two] = at(Pair::SERVER, 80);
    let _servers = [one, two].map(|end| TcpServer::echo(&net.server, end));
    assert!(tcp::none_reaches(&net.client, &[one, two]));
    let entry = |number: u16, egress: bool, (key, network): (&str, &str), from: u16, to: u16| {
        format!(
            r#"{{"RuleNumber": {number}, "Egress": {egress}, "RuleAction": "allow", "Protocol": "6",
                "{key}": "{network}", "PortRange": {{"From": {from}, "To": {to}}}}}"#
        )
    };
    let (v4, v6) = (("CidrBlock", "0.0.0.0/0"), ("Ipv6CidrBlock", "::/0"));
    let document = format!(
        r#"{{"SecurityGroups": [{{"GroupName": "web", "Description": "x", "IpPermissionsEgress": [],
              "IpPermissions": [{{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
                  "IpRanges": [{{"CidrIp": "0.0.0.0/0"}}], "Ipv6Ranges": [{{"CidrIpv6": "::/0"}}]}}]}}],
            "NetworkAcls": [{{"Tags": [{{"Key": "Name", "Value": "web"}}], "Entries": [{}]}}]}}"#,
        [
            entry(100, false, v4, 80, 80),
            entry(101, false, v6, 80, 80),
            entry(100, true, v4, 1024, 65535),
            entry(101, true, v6, 1024, 65535),
        ]
        .join(",")
    );
    let file = secgroup.state_dir().join("document.json");
    std::fs::write(&file, document).unwrap();
    secgroup.ok_with(["apply".as_ref(), file.as_os_str()]);
    for end in [one, two] {
        assert!(tcp::reaches(&net.client, end), "{}", secgroup.view());
    }
    // What is exported is what is here.
    let exported = secgroup.ok("export");
    std::fs::write(&file, exported).unwrap();
    assert_eq!(secgroup.ok_with(["apply".as_ref(), file.as_os_str()]), "");
    secgroup.ok("acl disassociate web eth0");
    let refused = secgroup.refused("acl disassociate web eth0", 3);
    assert!(refused.contains("eth0 does not have network ACL web"), "{refused}");
}
