//! Documents of AWS that are applied while an interface is attached.

use secgroup_tests::ping::ping;
use secgroup_tests::{Pair, Secgroup};

/// A rule that EC2 stores and no packet matches.
#[test]
fn icmp_with_an_ipv6_network_admits_nothing() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let [v4, v6] = Pair::SERVER;
    assert!(!ping(&net.client, v4) && !ping(&net.client, v6));
    let file = tempfile::NamedTempFile::new().unwrap();
    let document = |protocol: &str| {
        format!(
            r#"{{"SecurityGroups": [{{"GroupName": "web", "Description": "x", "IpPermissionsEgress": [],
            "IpPermissions": [{{"IpProtocol": "{protocol}", "FromPort": -1, "ToPort": -1,
            "IpRanges": [{{"CidrIp": "0.0.0.0/0"}}], "Ipv6Ranges": [{{"CidrIpv6": "::/0"}}]}}]}}]}}"#
        )
    };
    for (protocol, passes) in [("icmp", [true, false]), ("icmpv6", [false, true])] {
        std::fs::write(&file, document(protocol)).unwrap();
        let output = secgroup.run(["apply", file.path().to_str().unwrap()]);
        assert_eq!(output.code, Some(0), "{output}");
        assert_eq!(output.stderr.matches("the rule matches nothing").count(), 1, "{output}");
        secgroup.ok("flows flush");
        let seen = [v4, v6].map(|to| ping(&net.client, to));
        assert_eq!(seen, passes, "{protocol}: {}", secgroup.view());
    }
}

#[test]
fn prune_removes_no_group_of_an_attached_interface() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    for name in ["web", "ping", "old"] {
        secgroup.ok(&format!("group create {name} --description x"));
    }
    secgroup.ok("rule add ping ingress --protocol icmp --cidr 10.77.0.0/24");
    secgroup.ok("rule add ping ingress --protocol tcp --port 80 --group old");
    secgroup.ok("attach eth0 --group web --group ping");
    let web = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&web, secgroup.ok("export web")).unwrap();
    let apply = format!("apply {} --prune", web.path().display());
    let refused = secgroup.refused(&apply, 1);
    assert!(refused.contains("--prune: group ping is used by interface eth0\n"), "{refused}");
    assert!(ping(&net.client, Pair::SERVER[0]));
    secgroup.ok("attach eth0 --remove-group ping");
    secgroup.ok(&apply);
    assert!(!secgroup.ok("group list").contains("ping"));
    secgroup.ok("flows flush");
    assert!(!ping(&net.client, Pair::SERVER[0]));
    secgroup.ok("reconcile");
}
