//! EC2's texts of errors about groups and rules, as its clients have seen them.

use crate::model::{Ec2Traffic, Error, GroupId, RuleSpec, Traffic};

/// The characters of descriptions, with the two spaces that EC2's text has.
const CHARACTERS: &str = "strings less than 256 characters from the following set:  \
                          a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*";

/// The text that EC2 has for an error, if it is about groups and rules and its text is known.
pub(super) fn message(error: &Error) -> Option<String> {
    Some(match error {
        Error::IdMalformed { prefix, text } => {
            format!("Invalid id: \"{text}\" (expecting \"{prefix}...\")")
        }
        Error::GroupNotFound(word) => format!("The security group '{word}' does not exist"),
        Error::VpcNotFound(id) => format!("The vpc ID '{id}' does not exist"),
        Error::PrefixListNotFound(id) => format!("The prefix list ID '{id}' does not exist"),
        Error::GroupDuplicate { name, vpc, .. } => {
            format!("The security group '{name}' already exists for VPC '{vpc}'")
        }
        Error::GroupDefault(id) => {
            format!("the specified group: \"{id}\" name: \"default\" cannot be deleted by a user")
        }
        // EC2 does not say what depends on it.
        Error::GroupInUse { id, .. } => {
            let reason = super::with_hint(&error.to_string(), error.hint().as_deref());
            format!("resource {id} has a dependent object: {reason}")
        }
        Error::NameReserved { text, prefix: GroupId::PREFIX, .. } => format!(
            "Value ({text}) for parameter GroupName is invalid. Group names may not be in the format \
             sg-*."
        ),
        Error::TextCharacter { what, text, odd } if !odd.is_ascii() => {
            not_ascii(what, text).or_else(|| characters(what))?
        }
        Error::TextCharacter { what, .. } | Error::TextLength { what, .. } => characters(what)?,
        Error::RuleNotFound { rule, .. } | Error::RuleUnknown(rule) => {
            format!("The security group rule ID '{rule}' does not exist")
        }
        Error::PermissionNotFound { .. } => {
            "The specified rule does not exist in this security group.".to_owned()
        }
        Error::RuleDuplicate { spec, .. } => {
            format!("the specified rule \"{}\" already exists", permission(spec))
        }
        Error::RuleRepeated(_) => "The same permission must not appear multiple times".to_owned(),
        Error::RulesLimit { .. } => {
            "The maximum number of rules per security group has been reached.".to_owned()
        }
        Error::PortsMissing { .. } => {
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange."
                .to_owned()
        }
        Error::IcmpMissing { .. } => {
            "Invalid value 'Must specify both from and to ports with ICMP.' for portRange."
                .to_owned()
        }
        Error::Port { port } => format!("TCP/UDP port ({port}) out of range"),
        Error::PortsReversed { from, to } => format!("Invalid TCP/UDP port range ({from}:{to})"),
        Error::IcmpNumber { what, value } => format!("ICMP {what} ({value}) out of range"),
        Error::Protocol { text, .. } => {
            format!("Invalid value '{text}' for IP protocol. Unknown protocol.")
        }
        Error::Cidr { text, .. } => format!("CIDR block {text} is malformed"),
        Error::CidrWithoutLength(address) => format!("CIDR block {address} is malformed"),
        _ => return None,
    })
}

fn not_ascii(what: &str, text: &str) -> Option<String> {
    let parameter = match what {
        "group name" => "GroupName",
        "group description" => "GroupDescription",
        _ => return None,
    };
    Some(format!(
        "Value ({text}) for parameter {parameter} is invalid. Character sets beyond ASCII are not \
         supported."
    ))
}

fn characters(what: &str) -> Option<String> {
    let (text, texts) = match what {
        "rule description" => ("rule description", "descriptions"),
        "group description" => ("security group description", "descriptions"),
        "group name" => ("security group name", "names"),
        _ => return None,
    };
    Some(format!("Invalid {text}. Valid {texts} are {CHARACTERS}"))
}

/// A rule as EC2 names it when there is one already.
fn permission(spec: &RuleSpec) -> String {
    let RuleSpec { direction: _, traffic, peer } = spec;
    let any = |number: Option<i64>| match number {
        None | Some(-1) => "ALL".to_owned(),
        Some(number) => number.to_string(),
    };
    let Ec2Traffic { protocol, from, to } = traffic.to_ec2();
    let traffic = match traffic {
        Traffic::All => "ALL".to_owned(),
        Traffic::Other(number) => format!("protocol: {number}"),
        Traffic::Tcp(ports) | Traffic::Udp(ports) => {
            let protocol = protocol.to_ascii_uppercase();
            format!("{protocol}, from port: {}, to port: {}", ports.from, ports.to)
        }
        Traffic::Icmp(_) => format!("ICMP, type: {}, code: {}", any(from), any(to)),
        Traffic::Icmpv6(_) => format!("ICMPv6, type: {}, code: {}", any(from), any(to)),
    };
    format!("peer: {peer}, {traffic}, ALLOW")
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::interface::Direction;

    use super::*;
    use crate::model::{IcmpMatch, PortRange, parse_cidr};

    #[test]
    fn a_rule_that_exists_is_named_as_ec2_names_it() {
        for (traffic, peer, expected) in [
            (
                Traffic::Tcp(PortRange { from: 22, to: 23 }),
                "0.0.0.0/0",
                "peer: 0.0.0.0/0, TCP, from port: 22, to port: 23, ALLOW",
            ),
            (
                Traffic::Icmp(IcmpMatch::Any),
                "10.0.0.0/24",
                "peer: 10.0.0.0/24, ICMP, type: ALL, code: ALL, ALLOW",
            ),
            (
                Traffic::Icmp(IcmpMatch::Type(8)),
                "10.0.0.0/24",
                "peer: 10.0.0.0/24, ICMP, type: 8, code: ALL, ALLOW",
            ),
            (Traffic::All, "::/0", "peer: ::/0, ALL, ALLOW"),
            (Traffic::Other(50), "0.0.0.0/0", "peer: 0.0.0.0/0, protocol: 50, ALLOW"),
        ] {
            let peer = parse_cidr(peer).unwrap().into();
            let spec = RuleSpec { direction: Direction::Ingress, traffic, peer };
            assert_eq!(permission(&spec), expected);
        }
    }
}
