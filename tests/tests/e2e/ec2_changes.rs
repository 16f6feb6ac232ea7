//! Changes by the EC2 API beside other writers, with the connection of their client, and coalesced ones.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use firewall_ec2::Params;
use firewall_user::api::{Access, Answer, Api, Caller, Connection};
use firewall_user::config::{Config, Paths};
use secgroup_tests::network::at;
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, udp};

/// The longest that an option allows, and one that no loaded machine exceeds between two calls.
const LONGEST: Duration = Duration::from_millis(100);
const ENDLESS: Duration = Duration::from_secs(120);

/// The endpoint of an instance, in this process.
struct Endpoint<'a> {
    net: &'a Pair,
    api: Api,
}

impl<'a> Endpoint<'a> {
    fn new(net: &'a Pair, secgroup: &Secgroup<'_>, coalescing: Duration) -> Self {
        let paths = Paths {
            state_dir: secgroup.state_dir(),
            pin_dir: secgroup.pin_dir().to_owned(),
            config: None,
        };
        Self { net, api: Api::new(paths, Config::default()).coalescing(coalescing) }
    }

    fn answer(&self, connection: Option<Connection>, form: &str) -> Answer {
        let caller = Caller { access: Access::Write, connection };
        self.net.server.run(|| self.api.answer(&caller, &Params::parse(form.as_bytes()).unwrap()))
    }

    fn ok(&self, form: &str) -> String {
        let Answer { status, body, .. } = self.answer(None, form);
        assert_eq!(status, 200, "{form}: {body}");
        body
    }

    fn error(&self, connection: Option<Connection>, form: &str) -> String {
        let Answer { status, body, .. } = self.answer(connection, form);
        assert_ne!(status, 200, "{form}: {body}");
        body
    }
}

fn group_id(secgroup: &Secgroup<'_>, name: &str) -> String {
    let groups = secgroup.json("group list")["SecurityGroups"].clone();
    let group = groups.as_array().unwrap().iter().find(|group| group["GroupName"] == name);
    group.unwrap()["GroupId"].as_str().unwrap().to_owned()
}

fn permission(group: &str, protocol: &str, port: u16, network: &str) -> String {
    format!(
        "&GroupId={group}&IpPermissions.1.IpProtocol={protocol}&IpPermissions.1.FromPort={port}\
         &IpPermissions.1.ToPort={port}&IpPermissions.1.IpRanges.1.CidrIp={network}"
    )
}

#[test]
fn calls_and_commands_at_once_are_all_in_force() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let id = group_id(&secgroup, "web");
    let endpoint = Endpoint::new(&net, &secgroup, Duration::ZERO);
    let (called, commanded) = (7001..=7012_u16, 8001..=8006_u16);
    thread::scope(|scope| {
        for ports in [7001..=7004, 7005..=7008, 7009..=7012_u16] {
            let (endpoint, id) = (&endpoint, &id);
            scope.spawn(move || {
                for port in ports {
                    let rule = permission(id, "udp", port, "10.77.0.0/24");
                    endpoint.ok(&format!("Action=AuthorizeSecurityGroupIngress{rule}"));
                    // A reading that begins after an answer sees its change.
                    let all = endpoint.ok(&format!("Action=DescribeSecurityGroups&GroupId.1={id}"));
                    assert!(all.contains(&format!("<fromPort>{port}<")), "{port}: {all}");
                }
            });
        }
        for port in commanded.clone() {
            secgroup.ok(&format!(
                "rule add web ingress --protocol udp --port {port} --cidr 10.77.0.0/24"
            ));
            let all = endpoint.ok(&format!("Action=DescribeSecurityGroups&GroupId.1={id}"));
            assert!(all.contains(&format!("<fromPort>{port}<")), "{port}: {all}");
        }
    });
    for port in called.chain(commanded) {
        let to = at(Pair::SERVER, port)[0];
        let _echo = udp::UdpEcho::start(&net.server, to);
        assert!(udp::is_echoed(&udp::connect(&net.client, to), MAX_WAIT), "{port}");
    }
}

#[test]
fn a_client_does_not_lock_itself_out() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 8773 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    let id = group_id(&secgroup, "web");
    let endpoint = Endpoint::new(&net, &secgroup, Duration::ZERO);
    let revoke = format!(
        "Action=RevokeSecurityGroupIngress{}",
        permission(&id, "tcp", 8773, "10.77.0.0/24")
    );
    let ends = |client, server| Some(Connection { client, server });
    let far = ends(at(Pair::CLIENT, 50_000)[0], at(Pair::SERVER, 8773)[0]);
    for form in [format!("{revoke}&DryRun=true"), revoke.clone()] {
        let error = endpoint.error(far, &form);
        assert!(error.contains("<Code>OperationNotPermitted</Code>"), "{error}");
        let what = "this would lock you out: your connection 10.77.0.2:50000 -&gt; 10.77.0.1:8773";
        assert!(error.contains(what), "{error}");
        assert!(
            error.contains("an ingress rule of web for TCP port 8773 from 10.77.0.2/32"),
            "{error}"
        );
    }
    // Another port is not the client's.
    let other = permission(&id, "tcp", 80, "10.77.0.0/24");
    endpoint.answer(far, &format!("Action=AuthorizeSecurityGroupIngress{other}"));
    assert_eq!(
        endpoint.answer(far, &format!("Action=RevokeSecurityGroupIngress{other}")).status,
        200
    );
    // The mapped form of an address, as a socket for both families has it.
    let mapped = |end: SocketAddr| {
        SocketAddr::new(format!("::ffff:{}", end.ip()).parse().unwrap(), end.port())
    };
    let both = far.and_then(|far| ends(mapped(far.client), mapped(far.server)));
    endpoint.error(both, &revoke);
    let local: SocketAddr = "127.0.0.1:50000".parse().unwrap();
    let near = ends(local, "127.0.0.1:8773".parse().unwrap());
    assert_eq!(endpoint.answer(near, &revoke).status, 200);
}

#[test]
fn a_revocation_that_is_coalesced_with_an_authorization_drops_nothing() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let id = group_id(&secgroup, "web");
    // From anywhere, with every reply: packets are evaluated each, and open no flow.
    let to = at(Pair::SERVER, 1001)[0];
    let _bound = udp::bind(&net.server, to);
    let endpoint = Endpoint::new(&net, &secgroup, ENDLESS);
    let rule = permission(&id, "udp", 1001, "0.0.0.0/0");
    let call = |action: &str| endpoint.ok(&format!("Action={action}SecurityGroupIngress{rule}"));
    call("Authorize");
    let drops = || secgroup.counters().packets("eth0", "ingress", "no-rule");
    let before = drops();
    let ((), _) = udp::while_flooding(&net.client, &[to], || {
        for _ in 0..10 {
            call("Revoke");
            assert!(!endpoint.ok("Action=DescribeSecurityGroups").contains("<fromPort>1001<"));
            call("Authorize");
        }
    });
    assert_eq!(drops(), before);
    let is_passed = || udp_passes(&net, &secgroup, to);
    assert!(is_passed());
    // A command in between has both take effect.
    call("Revoke");
    secgroup.ok("rule add web ingress --protocol udp --port 9 --cidr 10.77.0.0/24");
    assert!(!is_passed());
    call("Authorize");
    // As if the process were killed.
    call("Revoke");
    assert!(is_passed());
    secgroup.ok("reconcile");
    assert!(!is_passed());
    call("Authorize");
    // Alone it takes effect in time, and when the endpoint ends.
    let soon = Endpoint::new(&net, &secgroup, LONGEST);
    soon.ok(&format!("Action=RevokeSecurityGroupIngress{rule}"));
    wait_until(MAX_WAIT, "the revocation to be in force", || !is_passed());
    call("Authorize");
    call("Revoke");
    drop(endpoint);
    assert!(!is_passed());
}

/// Whether a datagram passes; without waiting for a reply.
fn udp_passes(net: &Pair, secgroup: &Secgroup<'_>, to: SocketAddr) -> bool {
    let of = |verdict: &[&str]| -> u64 {
        verdict.iter().map(|reason| secgroup.counters().packets("eth0", "ingress", reason)).sum()
    };
    let before = of(&["no-rule"]);
    let socket = udp::connect(&net.client, to);
    socket.send(b"request").unwrap();
    thread::sleep(Duration::from_millis(20));
    of(&["no-rule"]) == before
}
