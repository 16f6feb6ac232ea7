//! The commands of every tutorial, by the AWS CLI, with packages after each.

use std::time::Duration;

use secgroup_tests::clients::Endpoint;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::{Pair, Secgroup};
use serde_json::{Value, json};

/// Whether a datagram from the server reaches the client.
fn leaves(net: &Pair, echo: &UdpEcho) -> bool {
    udp::is_echoed(&udp::connect(&net.server, echo.address()), Duration::from_millis(300))
}

fn id(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer:#}")).to_owned()
}

#[test]
fn packets_obey_each_of_the_five_commands() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let endpoint = Endpoint::start(&secgroup, &net.server);
    let [web, _] = at(Pair::SERVER, 80);
    let [ssh, _] = at(Pair::SERVER, 22);
    let _web = TcpServer::echo(&net.server, web);
    let _ssh = TcpServer::echo(&net.server, ssh);
    let outside = UdpEcho::start(&net.client, at(Pair::CLIENT, 5000)[0]);
    assert!(tcp::reaches(&net.client, web));

    // 1: a new group lets nothing in, and everything out.
    let made = endpoint.aws("create-security-group --group-name web --description web");
    let group = id(&made, "GroupId");
    secgroup.ok(&format!("attach eth0 --group {group}"));
    assert!(tcp::none_reaches(&net.client, &[web, ssh]));
    assert!(leaves(&net, &outside));

    // 2: only TCP to port 80.
    let line = format!(
        "authorize-security-group-ingress --group-id {group} --protocol tcp --port 80 --cidr 0.0.0.0/0"
    );
    let rule = &endpoint.aws(&line)["SecurityGroupRules"][0];
    assert_eq!(rule["CidrIpv4"], "0.0.0.0/0");
    tcp::exchange(&mut tcp::connect(&net.client, web).unwrap(), b"hello").unwrap();
    assert!(!tcp::reaches(&net.client, ssh));
    let message = endpoint.aws_refused(&line);
    assert!(message.contains("(InvalidPermission.Duplicate)"), "{message}");

    // 3: described as it is enforced.
    let described = endpoint.aws(&format!("describe-security-groups --group-ids {group}"));
    let found = &described["SecurityGroups"][0];
    let everyone = json!([{ "CidrIp": "0.0.0.0/0" }]);
    let permission = &found["IpPermissions"][0];
    assert_eq!((&permission["FromPort"], &permission["IpRanges"]), (&json!(80), &everyone));
    assert_eq!(found["IpPermissionsEgress"][0]["IpProtocol"], "-1");
    assert!(tcp::reaches(&net.client, web));

    // 4: nothing leaves, but replies.
    let line = format!(
        "revoke-security-group-egress --group-id {group} --ip-permissions \
         IpProtocol=-1,IpRanges=[{{CidrIp=0.0.0.0/0}}]"
    );
    endpoint.aws(&line);
    assert!(!leaves(&net, &outside));
    tcp::exchange(&mut tcp::connect(&net.client, web).unwrap(), b"hello").unwrap();

    // 5: and so it is described.
    let described = endpoint.aws(&format!("describe-security-groups --group-ids {group}"));
    assert_eq!(described["SecurityGroups"][0]["IpPermissionsEgress"], json!([]));
    assert!(!leaves(&net, &outside));
}

#[test]
fn an_interface_of_this_host_gets_other_groups_by_the_cli() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let endpoint = Endpoint::start(&secgroup, &net.server);
    let [web, _] = at(Pair::SERVER, 80);
    let _web = TcpServer::echo(&net.server, web);
    secgroup.ok("attach eth0 --group default");
    assert!(!tcp::reaches(&net.client, web));

    let interfaces = endpoint.aws("describe-network-interfaces");
    let interface = id(&interfaces["NetworkInterfaces"][0], "NetworkInterfaceId");
    let group =
        id(&endpoint.aws("create-security-group --group-name open --description x"), "GroupId");
    endpoint.aws(&format!(
        "authorize-security-group-ingress --group-id {group} --protocol tcp --port 80 --cidr 10.77.0.0/24"
    ));
    endpoint.aws(&format!(
        "modify-network-interface-attribute --network-interface-id {interface} --groups {group}"
    ));
    tcp::exchange(&mut tcp::connect(&net.client, web).unwrap(), b"hello").unwrap();
    let found = endpoint
        .aws(&format!("describe-network-interfaces --filters Name=group-id,Values={group}"));
    assert_eq!(found["NetworkInterfaces"][0]["Groups"][0]["GroupName"], "open");
    let message = endpoint.aws_refused(&format!("delete-security-group --group-id {group}"));
    assert!(message.contains("(DependencyViolation)") && message.contains("eth0"), "{message}");
}

#[test]
fn a_prefix_list_admits_its_entries() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let endpoint = Endpoint::start(&secgroup, &net.server);
    let [web, _] = at(Pair::SERVER, 80);
    let _web = TcpServer::echo(&net.server, web);
    let made = endpoint.aws(
        "create-managed-prefix-list --prefix-list-name offices --address-family IPv4 --max-entries 5",
    );
    let list = id(&made["PrefixList"], "PrefixListId");
    let group =
        id(&endpoint.aws("create-security-group --group-name web --description x"), "GroupId");
    endpoint.aws(&format!(
        "authorize-security-group-ingress --group-id {group} --ip-permissions \
         IpProtocol=tcp,FromPort=80,ToPort=80,PrefixListIds=[{{PrefixListId={list}}}]"
    ));
    secgroup.ok(&format!("attach eth0 --group {group}"));
    assert!(!tcp::reaches(&net.client, web));
    endpoint.aws(&format!(
        "modify-managed-prefix-list --prefix-list-id {list} --current-version 1 --add-entries Cidr=10.77.0.2/32"
    ));
    tcp::exchange(&mut tcp::connect(&net.client, web).unwrap(), b"hello").unwrap();
    endpoint.aws(&format!(
        "modify-managed-prefix-list --prefix-list-id {list} --current-version 2 --remove-entries Cidr=10.77.0.2/32"
    ));
    assert!(!tcp::reaches(&net.client, web));
    let message =
        endpoint.aws_refused(&format!("delete-managed-prefix-list --prefix-list-id {list}"));
    assert!(message.contains("(DependencyViolation)"), "{message}");
}

#[test]
fn a_network_acl_denies_what_groups_allow() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let endpoint = Endpoint::start(&secgroup, &net.server);
    let [web, _] = at(Pair::SERVER, 80);
    let _web = TcpServer::echo(&net.server, web);
    let group =
        id(&endpoint.aws("create-security-group --group-name web --description x"), "GroupId");
    endpoint.aws(&format!(
        "authorize-security-group-ingress --group-id {group} --protocol tcp --port 80 --cidr 0.0.0.0/0"
    ));
    secgroup.ok(&format!("attach eth0 --group {group}"));
    assert!(tcp::reaches(&net.client, web));
    let acls = endpoint.aws("describe-network-acls --filters Name=default,Values=true");
    let acl = id(&acls["NetworkAcls"][0], "NetworkAclId");
    endpoint.aws(&format!(
        "create-network-acl-entry --network-acl-id {acl} --ingress --rule-number 10 --protocol tcp \
         --port-range From=80,To=80 --cidr-block 10.77.0.0/24 --rule-action deny"
    ));
    assert!(!tcp::reaches(&net.client, web));
    endpoint.aws(&format!(
        "delete-network-acl-entry --network-acl-id {acl} --ingress --rule-number 10"
    ));
    tcp::exchange(&mut tcp::connect(&net.client, web).unwrap(), b"hello").unwrap();
}
