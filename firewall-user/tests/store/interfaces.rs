//! Network interfaces in the store: with and without a device.

use firewall_user::model::{Interface, InterfaceId, Limits, NewBlock, Peer, parse_cidr};
use firewall_user::store::{Error, Store, Transaction};
use tempfile::TempDir;

use crate::edits::{interface, new_group};

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (&'static str, String) {
    match result.unwrap_err() {
        Error::Model(error) => (error.code(), error.to_string()),
        other => panic!("{other}"),
    }
}

fn create(change: &mut Transaction<'_>) -> Interface {
    let group = change.create_group(new_group("web")).unwrap();
    let created = interface(1, "", vec![group]).without_device(Interface::FIRST_UNATTACHED);
    change.create_interface(created.clone()).unwrap();
    created
}

#[test]
fn an_interface_keeps_all_but_its_device_when_it_is_detached() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let created = create(&mut change);
    let device = Interface { slot: 0, device: "eth0".to_owned(), netns: None, ..created.clone() };
    let attached = change.attach_interface(device.clone()).unwrap();
    let attachment = attached.details.attachment.clone().unwrap();
    assert_eq!((attachment.index, change.model().unattached.len()), (0, 0));
    assert_eq!(refusal(change.attach_interface(device.clone())).0, "InvalidParameterValue");
    let target = Peer::from(parse_cidr("192.0.2.7/32").unwrap());
    let interface = Some(created.id.clone());
    let block = NewBlock { target, interface, reason: None, end: None, created: 0 };
    change.add_block(block).unwrap();
    change.commit().unwrap();
    let mut change = store.begin().unwrap();
    change.detach_interface(0).unwrap();
    assert_eq!(change.model().unattached[&created.slot], created);
    let again = change.attach_interface(Interface { slot: 3, ..device }).unwrap();
    assert_ne!(again.details.attachment.unwrap().id, attachment.id);
    change.detach_interface(3).unwrap();
    let (model, group) = (change.model().clone(), created.groups[0].clone());
    assert_eq!(model.blocks.len(), 1);
    let (code, message) = refusal(change.delete_group(&group));
    assert_eq!(code, "DependencyViolation");
    assert_eq!(message, format!("group web is used by network interface {}", created.id));
    change.commit().unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().model().unwrap(), model);
    let mut change = store.begin().unwrap();
    change.delete_interface(created.slot).unwrap();
    change.delete_group(&group).unwrap();
    assert_eq!(change.model().blocks.len(), 0);
    change.commit().unwrap();
}

#[test]
fn interfaces_are_limited_and_of_one_vpc() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { network_interfaces: 2, ..Limits::default() };
    let mut store = Store::open_with(dir.path(), limits).unwrap();
    let mut change = store.begin().unwrap();
    let one = create(&mut change);
    let other = |slot, device: &str| Interface {
        id: InterfaceId::random().unwrap(),
        slot,
        device: device.to_owned(),
        ..one.clone()
    };
    change.put_interface(&other(0, "eth0")).unwrap();
    for result in [change.create_interface(other(300, "")), change.put_interface(&other(1, "eth1"))]
    {
        assert_eq!(refusal(result).0, "NetworkInterfaceLimitExceeded");
    }
    let settings = change.model().vpcs.values().next().unwrap().settings.clone();
    let vpc = change.create_vpc(settings, [].into()).unwrap();
    let settings = change.model().subnets.values().next().unwrap().settings.clone();
    let subnet = change.create_subnet(vpc.clone(), settings, [].into()).unwrap();
    let (code, message) = refusal(change.edit_interface(&one.id, |one| one.subnet = subnet));
    assert_eq!(code, "InvalidGroup.NotFound");
    let (here, _) = message.split_once(", not to").unwrap();
    assert_eq!(here, "group web belongs to vpc-00000000000000000");
}
