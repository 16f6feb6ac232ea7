//! Network interfaces and network ACLs of the EC2 API: mapped onto devices, and traffic follows each call.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use secgroup_tests::ec2::{Call, Reply, send, serve};
use secgroup_tests::network::at;
use secgroup_tests::process::Process;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Namespace, Pair, Secgroup};

/// The API of a host that protects the server of a pair.
struct Api<'a> {
    host: &'a Namespace,
    _serve: Process,
}

impl<'a> Api<'a> {
    fn new(host: &'a Namespace, secgroup: &Secgroup<'_>) -> Self {
        Self { host, _serve: serve(secgroup, "--insecure-no-auth") }
    }

    fn call(&self, form: &str) -> Reply {
        let form = format!("Version=2016-11-15&Action={form}");
        let mut call = Call::post(&form);
        // What browsers do not send.
        call.headers.push(("amz-sdk-request", "attempt=1".to_owned()));
        send(self.host, &call.unsigned())
    }

    /// The body of a success.
    #[track_caller]
    fn ok(&self, form: &str) -> String {
        let Reply { status, body, .. } = self.call(form);
        assert_eq!(status, 200, "{form}: {body}");
        body
    }

    /// The text of an element in a success.
    #[track_caller]
    fn get(&self, form: &str, name: &str) -> String {
        element(&self.ok(form), name)
    }

    fn group(&self, name: &str) -> String {
        self.get(&format!("CreateSecurityGroup&GroupName={name}&GroupDescription=d"), "groupId")
    }

    /// Lets a group accept TCP at a port from anywhere.
    fn open(&self, group: &str, port: u16) {
        self.ok(&format!(
            "AuthorizeSecurityGroupIngress&GroupId={group}&IpProtocol=tcp&FromPort={port}&ToPort={port}&\
             CidrIp=0.0.0.0/0"
        ));
    }

    /// The id of this host.
    fn instance(&self) -> String {
        let none = "eni-00000000000000000&InstanceId=i-00000000&DeviceIndex=1";
        let refused = self.call(&format!("AttachNetworkInterface&NetworkInterfaceId={none}"));
        let id = refused.body.split_once("this host is ").unwrap().1;
        id.split_once('<').unwrap().0.to_owned()
    }

    fn attach(&self, interface: &str, index: u32) -> String {
        let instance = self.instance();
        let form = format!(
            "AttachNetworkInterface&NetworkInterfaceId={interface}&InstanceId={instance}&\
             DeviceIndex={index}"
        );
        self.get(&form, "attachmentId")
    }

    fn describe(&self, interface: &str) -> String {
        self.ok(&format!("DescribeNetworkInterfaces&NetworkInterfaceId.1={interface}"))
    }
}

#[track_caller]
fn element(body: &str, name: &str) -> String {
    let rest = body.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    let text = rest.and_then(|rest| rest.split_once(&format!("</{name}>")));
    text.unwrap_or_else(|| panic!("no {name} in {body}")).0.to_owned()
}

/// The tag that names a device.
fn on_device(name: &str) -> String {
    format!(
        "&TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=secgroup:device&\
         TagSpecification.1.Tag.1.Value={name}"
    )
}

fn create(api: &Api<'_>, more: &str) -> String {
    let form = format!("CreateNetworkInterface&SubnetId=subnet-00000000000000000{more}");
    api.get(&form, "networkInterfaceId")
}

/// The address of the server, and whether it can be reached.
fn server(net: &Pair) -> (SocketAddr, impl Fn() -> bool) {
    let address = at(Pair::SERVER, 80)[0];
    (address, move || !tcp::none_reaches(&net.client, &[address]))
}

#[test]
fn traffic_follows_the_groups_of_an_interface_from_attach_to_detach() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let (address, is_reached) = server(&net);
    let _server = TcpServer::echo(&net.server, address);
    let api = Api::new(&net.server, &secgroup);
    let (web, closed) = (api.group("web"), api.group("closed"));
    let id = create(&api, &format!("&SecurityGroupId.1={closed}{}", on_device("eth0")));
    assert_eq!(element(&api.describe(&id), "status"), "available");
    assert!(is_reached(), "nothing is attached yet");
    let attachment = api.attach(&id, 1);
    assert!(!is_reached(), "{}", secgroup.view());
    let body = api.describe(&id);
    assert!(body.contains("<status>in-use</status>"), "{body}");
    assert_eq!(element(&body, "attachmentId"), attachment);
    assert_eq!(element(&body, "privateIpAddress"), address.ip().to_string());
    let link = net.server.run(|| std::fs::read_to_string("/sys/class/net/eth0/address"));
    assert!(link.is_err() || !element(&body, "macAddress").is_empty());
    let status = secgroup.status();
    let shown = &status["NetworkInterfaces"][0];
    assert_eq!(
        (&shown["NetworkInterfaceId"], &shown["Device"]),
        (&id.as_str().into(), &"eth0".into())
    );
    assert_eq!(shown["SubnetId"], "subnet-00000000000000000");
    assert_eq!(shown["Attachment"]["AttachmentId"], attachment);

    let modify =
        |more: &str| format!("ModifyNetworkInterfaceAttribute&NetworkInterfaceId={id}&{more}");
    api.open(&web, 80);
    assert!(!is_reached(), "of another group");
    api.ok(&modify(&format!("SecurityGroupId.1={web}")));
    assert!(is_reached(), "{}", secgroup.view());
    api.ok(&modify("ConnectionTrackingSpecification.TcpEstablishedTimeout=350"));
    let timeouts =
        secgroup.status()["NetworkInterfaces"][0]["ConnectionTrackingConfiguration"].clone();
    assert_eq!(timeouts["TcpEstablishedTimeout"], 350);
    assert!(is_reached(), "{}", secgroup.view());
    api.ok(&modify(&format!("SecurityGroupId.1={closed}")));
    assert!(!is_reached(), "{}", secgroup.view());

    let delete = format!("DeleteNetworkInterface&NetworkInterfaceId={id}");
    let refused = api.call(&delete);
    assert_eq!(refused.code(), "InvalidParameterValue", "{refused:?}");
    let refused = api.call(&format!("DeleteSecurityGroup&GroupId={closed}"));
    assert_eq!(refused.code(), "DependencyViolation", "{refused:?}");
    api.ok(&format!("DetachNetworkInterface&AttachmentId={attachment}&DryRun=false"));
    assert!(is_reached(), "nothing is attached any more");
    let body = api.describe(&id);
    assert_eq!(element(&body, "status"), "available");
    assert_eq!(element(&body, "groupId"), closed);
    assert_eq!(element(&body, "tcpEstablishedTimeout"), "350");
    // The same interface again, by its tag, with its groups and settings.
    let again = api.attach(&id, 2);
    assert_ne!(again, attachment);
    assert!(!is_reached(), "{}", secgroup.view());
    api.ok(&format!("DetachNetworkInterface&AttachmentId={again}"));
    api.ok(&delete);
    let form = format!("DescribeNetworkInterfaces&NetworkInterfaceId.1={id}");
    assert_eq!(api.call(&form).code(), "InvalidNetworkInterfaceID.NotFound");
    api.ok(&format!("DeleteSecurityGroup&GroupId={closed}"));
}

#[test]
fn an_interface_is_attached_to_the_device_that_has_its_address() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let (address, is_reached) = server(&net);
    let _server = TcpServer::echo(&net.server, address);
    let api = Api::new(&net.server, &secgroup);
    let id = create(&api, &format!("&PrivateIpAddress={}", address.ip()));
    let other = create(&api, "&PrivateIpAddress=192.0.2.7");
    let form = |id: &str, index: u32| {
        format!(
            "AttachNetworkInterface&NetworkInterfaceId={id}&InstanceId={}&DeviceIndex={index}",
            api.instance()
        )
    };
    let refused = api.call(&form(&other, 1));
    assert!(refused.body.contains("secgroup:device"), "{refused:?}");
    let dry_run = api.call(&format!("{}&DryRun=true", form(&id, 1)));
    assert_eq!(dry_run.code(), "DryRunOperation");
    assert!(is_reached(), "only a dry run");
    api.attach(&id, 1);
    assert!(!is_reached(), "the default group accepts from its members only: {}", secgroup.view());
    // The device has an interface now.
    let second = create(&api, &on_device("eth0"));
    let refused = api.call(&form(&second, 2));
    assert!(refused.body.contains(&format!("network interface {id} already")), "{refused:?}");
    // A device of another namespace.
    let there = format!("{}/eth0", net.client.name());
    let guest = create(&api, &on_device(&there));
    let attachment = api.attach(&guest, 2);
    assert!(secgroup.ok("status").contains(&there));
    api.ok(&format!("DetachNetworkInterface&AttachmentId={attachment}"));
    // The command line deletes what it detaches.
    secgroup.ok("detach eth0");
    assert!(is_reached());
    let form = format!("DescribeNetworkInterfaces&NetworkInterfaceId.1={id}");
    assert_eq!(api.call(&form).code(), "InvalidNetworkInterfaceID.NotFound");
    secgroup.refused("status", 3);
}

#[test]
fn what_the_command_line_attaches_is_detached_by_the_api() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let (address, is_reached) = server(&net);
    let _server = TcpServer::echo(&net.server, address);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web --revalidate on");
    let api = Api::new(&net.server, &secgroup);
    let body = api.ok("DescribeNetworkInterfaces&Filter.1.Name=status&Filter.1.Value.1=in-use");
    let id = element(&body, "networkInterfaceId");
    assert_eq!(element(&body, "instanceId"), api.instance());
    assert!(!is_reached());
    let attachment = element(&body, "attachmentId");
    api.ok(&format!("DetachNetworkInterface&AttachmentId={attachment}"));
    assert!(is_reached());
    let tag = "Tag.1.Key=secgroup:device&Tag.1.Value=eth0";
    api.ok(&format!("CreateTags&ResourceId.1={id}&{tag}"));
    api.attach(&id, 0);
    assert!(!is_reached());
    assert_eq!(secgroup.status()["NetworkInterfaces"][0]["Revalidate"], true);
}

/// Whether an open connection carries a request and its reply.
fn carries(stream: &mut TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).unwrap();
    tcp::exchange(stream, b"request").is_ok()
}

/// After a request that was not answered: it is repeated, and answered first.
fn carries_again(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    stream.read_exact(&mut [0; 7]).is_ok() && carries(stream, MAX_WAIT)
}

#[test]
fn the_network_acl_of_a_subnet_cuts_its_interfaces_off_unless_they_have_their_own() {
    const SHORT: Duration = Duration::from_millis(300);
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let (address, _) = server(&net);
    let _server = TcpServer::echo(&net.server, address);
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0");
    secgroup.ok("attach eth0 --group open");
    let api = Api::new(&net.server, &secgroup);
    let mut stream = tcp::connect(&net.client, address).unwrap();
    assert!(carries(&mut stream, MAX_WAIT));
    let acl = api.get("CreateNetworkAcl&VpcId=vpc-00000000000000000", "networkAclId");
    let default = api.ok("DescribeNetworkAcls&Filter.1.Name=default&Filter.1.Value.1=true");
    let association = element(&default, "networkAclAssociationId");
    let default = element(&default, "networkAclId");
    let replace = |association: &str, acl: &str| {
        let form =
            format!("ReplaceNetworkAclAssociation&AssociationId={association}&NetworkAclId={acl}");
        api.get(&form, "newAssociationId")
    };
    let association = replace(&association, &acl);
    assert!(!carries(&mut stream, SHORT), "{}", secgroup.view());
    for (number, is_egress) in [(100, false), (100, true)] {
        api.ok(&format!(
            "CreateNetworkAclEntry&NetworkAclId={acl}&RuleNumber={number}&Protocol=-1&RuleAction=allow&\
             Egress={is_egress}&CidrBlock=0.0.0.0/0&PortRange.From=0&PortRange.To=0"
        ));
    }
    assert!(carries_again(&mut stream), "{}", secgroup.view());
    let shown = secgroup.ok("status");
    assert!(shown.contains(&format!("network ACL {acl} of its subnet")), "{shown}");
    api.ok(&format!("DeleteNetworkAclEntry&NetworkAclId={acl}&RuleNumber=100&Egress=true"));
    assert!(!carries(&mut stream, SHORT), "{}", secgroup.view());
    // One of its own, even the default one, takes the place of that of the subnet.
    secgroup.ok("acl associate default eth0");
    assert!(carries_again(&mut stream), "{}", secgroup.view());
    let shown = secgroup.ok("status");
    assert!(
        shown.contains(&format!("network ACL default, in place of {acl} of its subnet")),
        "{shown}"
    );
    secgroup.ok("acl disassociate default eth0");
    assert!(!carries(&mut stream, SHORT), "{}", secgroup.view());
    let refused = api.call(&format!("DeleteNetworkAcl&NetworkAclId={acl}"));
    assert_eq!(refused.code(), "DependencyViolation", "{refused:?}");
    replace(&association, &default);
    assert!(carries_again(&mut stream), "{}", secgroup.view());
    api.ok(&format!("DeleteNetworkAcl&NetworkAclId={acl}"));
}
