//! The groups of a host with as many as the default configuration allows.

use serde_json::{Value, json};

use super::containers::COUNT;

/// The limit of EC2, and the default one of secgroup.
pub(super) const GROUPS: usize = 2500;
/// The group of every interface.
pub(super) const ALL: &str = "all";
/// The group of every second interface, from the first on; a rule of [`ALL`] names it.
pub(super) const POOL: &str = "pool";
/// The port that members of [`POOL`] may reach on every interface.
pub(super) const POOL_PORT: u16 = 5000;
/// Interfaces that share a tier.
const TIER: usize = 8;
/// Rules of every group of one interface or none.
const RULES: u16 = 12;

/// The groups of an interface.
pub(super) fn of(number: usize) -> Vec<String> {
    let mut groups = vec![ALL.to_owned(), own(number), tier(number / TIER)];
    if number.is_multiple_of(2) {
        groups.push(POOL.to_owned());
    }
    groups
}

/// The group of one interface alone.
pub(super) fn own(number: usize) -> String {
    format!("own-{number}")
}

fn tier(number: usize) -> String {
    format!("tier-{number}")
}

/// A document with all groups; in each, the networks of containers may reach `port`.
pub(super) fn document(port: u16) -> String {
    let from_pool = udp(POOL_PORT, json!({ "UserIdGroupPairs": [{ "GroupName": POOL }] }));
    let everything = json!({ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] });
    let mut groups =
        vec![group(ALL, port, vec![from_pool], &[everything]), group(POOL, port, Vec::new(), &[])];
    let tiers = COUNT / TIER;
    groups.extend((0..tiers).map(|number| {
        let next = tier((number + 1) % tiers);
        let peer = json!({ "UserIdGroupPairs": [{ "GroupName": next }] });
        group(&tier(number), port, vec![udp(POOL_PORT + 1, peer)], &[])
    }));
    groups.extend((0..COUNT).map(|number| group(&own(number), port, rules(number), &[])));
    // Stored, and not attached.
    let others = groups.len()..GROUPS;
    groups.extend(others.map(|number| group(&format!("g-{number}"), port, rules(number), &[])));
    json!({ "SecurityGroups": groups }).to_string()
}

fn group(name: &str, port: u16, mut ingress: Vec<Value>, egress: &[Value]) -> Value {
    ingress.push(from("10.0.0.0/8", port));
    json!({
        "GroupName": name,
        "Description": "bench",
        "IpPermissions": ingress,
        "IpPermissionsEgress": egress,
    })
}

/// Rules for networks of no container.
fn rules(number: usize) -> Vec<Value> {
    let (high, low) = (number / 250, number % 250);
    let network = |rule: u16| format!("172.{}.{low}.{}/32", 16 + high, 10 + rule);
    (0..RULES).map(|rule| from(&network(rule), 6000 + rule)).collect()
}

fn from(network: &str, port: u16) -> Value {
    udp(port, json!({ "IpRanges": [{ "CidrIp": network }] }))
}

/// A permission for a UDP port, with the peers of `permission`.
fn udp(port: u16, mut permission: Value) -> Value {
    permission["IpProtocol"] = json!("udp");
    permission["FromPort"] = json!(port);
    permission["ToPort"] = json!(port);
    permission
}
