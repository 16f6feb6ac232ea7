use std::net::IpAddr;

use clap::{Args as _, FromArgMatches as _};
use proptest::prelude::*;

use super::*;
use crate::explain::Explain as _;

fn parse(line: &str) -> Query {
    Query::from_line(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn rule(digit: char, group: char, name: &str) -> RuleName {
    RuleName {
        security_group_rule_id: format!("sgr-{}", digit.to_string().repeat(17)),
        group_id: format!("sg-{}", group.to_string().repeat(17)),
        group_name: name.to_owned(),
    }
}

/// A dropped TCP packet from 192.0.2.7:51234 to 198.51.100.1:8443.
fn tcp(rule: &RuleName) -> Subject<'_> {
    Subject {
        network_interface_id: "eni-1",
        device: "eth0",
        netns: None,
        direction: Some(Direction::Ingress),
        protocol: Some(6),
        source: "192.0.2.7".parse().ok(),
        destination: "198.51.100.1".parse().ok(),
        source_port: Some(51234),
        destination_port: Some(8443),
        icmp: None,
        reason: Some(Reason::NoRule),
        state: None,
        rule: Some(rule),
    }
}

/// A ping that a block dropped, in a namespace.
fn ping() -> Subject<'static> {
    Subject {
        network_interface_id: "eni-2",
        device: "eth0",
        netns: Some("blue"),
        direction: Some(Direction::Egress),
        protocol: Some(58),
        source: "2001:db8::7".parse().ok(),
        destination: "2001:db8:1::1".parse().ok(),
        icmp: Some((128, 0)),
        reason: Some(Reason::Blocked),
        ..Subject::default()
    }
}

/// A frame that is not IP.
fn frame() -> Subject<'static> {
    Subject {
        network_interface_id: "eni-1",
        device: "eth0",
        direction: Some(Direction::Ingress),
        reason: Some(Reason::NonIp),
        ..Subject::default()
    }
}

/// A UDP flow that a rule of group dns allowed.
fn flow(rule: &RuleName) -> Subject<'_> {
    Subject {
        network_interface_id: "eni-2",
        device: "eth0",
        netns: Some("blue"),
        direction: Some(Direction::Ingress),
        protocol: Some(17),
        source: "192.0.2.9".parse().ok(),
        destination: "198.51.100.1".parse().ok(),
        source_port: Some(40000),
        destination_port: Some(53),
        state: Some(State::Udp),
        rule: Some(rule),
        ..Subject::default()
    }
}

/// The names of the four subjects.
fn names(all: &[Subject<'_>]) -> Recorded {
    let mut names = Recorded::default();
    all.iter().for_each(|subject| names.add(subject));
    names
}

#[test]
fn a_query_chooses_what_every_filter_matches() {
    let (web, dns) = (rule('1', 'a', "web"), rule('2', 'b', "dns"));
    let all = [tcp(&web), ping(), frame(), flow(&dns)];
    let names = names(&all);
    // Which of the four match: t(cp), p(ing), f(rame), u(dp flow).
    for (line, expected) in [
        ("", "tpfu"),
        ("--from 192.0.2.7", "t"),
        ("--from 192.0.2.0/24", "tu"),
        ("--from 192.0.2.99/24", "tu"),
        ("--from ::/0", "p"),
        ("--from 198.51.100.1", ""),
        ("--to 198.51.100.1", "tu"),
        ("--to 198.51.100.1 --from 192.0.2.9", "u"),
        ("--to 198.51.100.1 --to 2001:db8:1::/48", "tpu"),
        ("--address 192.0.2.7 --address 2001:db8:1::1", "tp"),
        ("--port 8443", "t"),
        ("--port 51234", "t"),
        ("--port 53 --port 8000-9000", "tu"),
        ("--port 0-65535", "tu"),
        ("--port 128/0", "p"),
        ("--port 128/*", "p"),
        ("--port 128/1", ""),
        ("--port domain", "u"),
        ("--port HTTPS", ""),
        ("--port ssh --port dns", "u"),
        ("--port echo-request", "p"),
        ("--port echo-reply", ""),
        ("--protocol tcp", "t"),
        ("--protocol 17 --protocol ICMPv6", "pu"),
        ("--interface eth0", "tf"),
        ("--interface blue/eth0", "pu"),
        ("--interface eth0 --netns blue", "pu"),
        ("--interface eni-1 --interface eni-2", "tpfu"),
        ("--netns blue", "pu"),
        ("--group web", "t"),
        ("--group WEB --group sg-bbbbbbbbbbbbbbbbb", "tu"),
        ("--rule sgr-22222222222222222", "u"),
        ("--rule sgr-11111111111111111 --group dns", ""),
        ("--reason no-rule", "t"),
        ("--reason blocked --reason non-ip", "pf"),
        ("--direction ingress", "tfu"),
        ("--state udp", "u"),
        ("--state established", ""),
        ("--default-deny", "t"),
        ("--default-deny --reason blocked", ""),
        ("--not --default-deny", "pfu"),
        ("--not --port 8443 --protocol tcp", "pfu"),
        ("--not --from 192.0.2.0/24", "pf"),
        ("--not --state udp", "tpf"),
    ] {
        let checked = parse(line).check(&names).unwrap();
        let chosen = all.iter().zip("tpfu".chars());
        let chosen: String =
            chosen.filter(|(one, _)| checked.matches(one)).map(|(_, c)| c).collect();
        assert_eq!(chosen, expected, "{line}");
    }
}

#[test]
fn unknown_values_list_the_known_ones() {
    let (web, dns) = (rule('1', 'a', "web"), rule('2', 'b', "dns"));
    let names = names(&[tcp(&web), flow(&dns)]);
    for (line, message, hint) in [
        ("--group mail", r#"there is no group "mail""#, "known: dns, web"),
        ("--interface eth1", r#"there is no attached interface "eth1""#, "known: blue/eth0, eth0"),
        ("--netns red", r#"there is no network namespace "red""#, "known: blue"),
        (
            "--rule sgr-33333333333333333",
            "there never was a rule sgr-33333333333333333",
            "`secgroup rule list` shows the rules",
        ),
        (
            "--not",
            "--not without another filter chooses nothing",
            "name what is to be left out, as --not --reason no-rule",
        ),
    ] {
        let error = parse(line).check(&names).unwrap_err();
        let error = error.downcast::<QueryError>().unwrap();
        assert_eq!(error.to_string(), message, "{line}");
        assert_eq!(error.hint().unwrap(), hint, "{line}");
    }
    let error = parse("--interface a/b/c").check(&names).unwrap_err();
    assert_eq!(error.to_string(), r#""a/b/c" is not DEVICE or NAMESPACE/DEVICE"#);
}

#[test]
fn invalid_values_say_what_is_valid() {
    for (line, message, hint) in [
        (
            "--reason denied",
            "invalid value 'denied' for '--reason <REASON>'",
            "known: established, ",
        ),
        (
            "--direction in",
            "invalid value 'in' for '--direction <DIRECTION>'",
            "known: ingress, egress",
        ),
        ("--state open", "invalid value 'open' for '--state <STATE>'", "known: syn-sent, "),
        (
            "--address 1.2.3",
            "invalid value '1.2.3' for '--address <CIDR>': write an address, or a network as ADDRESS/LENGTH",
            "",
        ),
        (
            "--port 65536",
            "invalid value '65536' for '--port <PORT>': write a port from 0 to 65535, a range as FIRST-LAST, \
             a service as https, an ICMP message as echo-request or TYPE/CODE",
            "",
        ),
        (
            "--port 20-10",
            "invalid value '20-10' for '--port <PORT>': write a port from 0 to 65535, a range as FIRST-LAST, \
             a service as https, an ICMP message as echo-request or TYPE/CODE",
            "",
        ),
        (
            "--protocol quic",
            "invalid value 'quic' for '--protocol <PROTOCOL>': icmp, igmp, ipip, tcp, udp, dccp, ipv6, gre, \
             esp, ah, icmpv6, ospf, pim, vrrp, sctp or a number from 0 to 255",
            "",
        ),
        (
            "--color red",
            r#"unknown filter "color""#,
            "known: from, to, address, port, protocol, interface, ",
        ),
        ("--port", "a value is required for '--port <PORT>' but none was supplied", ""),
    ] {
        let error = Query::from_line(line).unwrap_err();
        assert_eq!(error.to_string(), message, "{line}");
        assert!(error.hint().unwrap_or_default().starts_with(hint), "{line}: {:?}", error.hint());
        assert_eq!(error.hint().is_none(), hint.is_empty(), "{line}: {:?}", error.hint());
    }
}

#[test]
fn pairs_of_a_url_are_the_options_of_a_command() {
    let pairs =
        [("port", "443"), ("port", "53"), ("from", ""), ("not", "true"), ("default-deny", "")];
    assert_eq!(Query::from_pairs(pairs).unwrap(), parse("--port 443 --port 53 --not"));
    assert_eq!(Query::from_pairs([("default-deny", "1")]).unwrap(), parse("default-deny"));
    assert_eq!(Query::from_pairs([("not", "false")]).unwrap(), Query::default());
    // A value is never another option.
    for (name, value) in
        [("port", "--not"), ("--port", "1"), ("", "1"), ("not", "maybe"), ("help", "")]
    {
        assert!(Query::from_pairs([(name, value)]).is_err(), "{name}={value}");
    }
    assert_eq!(Query::from_pairs([("interface", "--not")]).unwrap().interface, ["--not"]);
}

#[test]
fn a_line_may_leave_the_hyphens_out() {
    assert_eq!(parse("port=443 reason=no-rule not"), parse("--port 443 --reason no-rule --not"));
    assert_eq!(parse("port 443"), parse("--port=443"));
}

#[test]
fn the_options_of_a_command_are_those_of_the_language() {
    let command = Query::augment_args(clap::Command::new("drops"));
    let matches = command.try_get_matches_from(["drops", "--port", "1-2", "--not"]).unwrap();
    assert_eq!(Query::from_arg_matches(&matches).unwrap(), parse("--port 1-2 --not"));
}

/// Addresses, ports, and three numbers from which the other fields are made.
type Fields = (Option<IpAddr>, Option<IpAddr>, [Option<u16>; 2], u8, u8, u8);

fn subjects() -> impl Strategy<Value = Fields> {
    let address =
        || proptest::option::of(any::<u8>().prop_map(|last| IpAddr::from([10, 0, 0, last])));
    let port = || proptest::option::of(0..4u16);
    (address(), address(), [port(), port()], 0..4u8, any::<u8>(), 0..20u8)
}

fn filters() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        (0..33u8, any::<u8>()).prop_map(|(length, last)| format!("--from 10.0.0.{last}/{length}")),
        (0..33u8, any::<u8>())
            .prop_map(|(length, last)| format!("--address 10.0.0.{last}/{length}")),
        (0..4u16, 0..3u16).prop_map(|(first, more)| format!("--port {first}-{}", first + more)),
        (0..4u8).prop_map(|number| format!("--protocol {number}")),
        (0..4u8).prop_map(|kind| format!("--port {kind}/*")),
        proptest::sample::select(Reason::ALL)
            .prop_map(|reason| format!("--reason {}", reason.name())),
        proptest::sample::select(State::ALL).prop_map(|state| format!("--state {}", state.name())),
        proptest::sample::select(&Direction::ALL[..])
            .prop_map(|direction| format!("--direction {}", direction.name())),
        Just("--default-deny".to_owned()),
    ];
    // `--default-deny` may be given once.
    proptest::collection::vec(one, 1..6).prop_map(|mut all| {
        all.sort();
        all.dedup();
        all.join(" ")
    })
}

proptest! {
    #[test]
    fn a_query_is_written_as_the_line_that_makes_it(line in filters()) {
        let query = parse(&line);
        prop_assert_eq!(parse(&query.to_line()), query);
    }
}

#[test]
fn names_are_written_as_they_were_typed() {
    for line in [
        "--port https",
        "--port ssh --port 8000-8999 --port 22",
        "--port echo-request",
        "--port 3/*",
        "--port 3/4",
        "--protocol tcp",
        "--interface blue/eth0 --netns red",
        "--group \"data base\" --not",
        "--rule sgr-0123456789abcdef0 --default-deny",
    ] {
        assert_eq!(parse(line).to_line(), line);
    }
    assert_eq!(
        parse("from=10.0.0.1 group=\"data base\"").to_line(),
        "--from 10.0.0.1/32 --group \"data base\""
    );
    assert_eq!(Query::default().to_line(), "");
}

proptest! {
    #[test]
    fn not_chooses_exactly_the_others(
        line in filters(),
        (source, destination, [source_port, destination_port], protocol, kind, more) in subjects(),
    ) {
        let subject = Subject {
            source,
            destination,
            source_port,
            destination_port,
            protocol: (protocol > 0).then_some(protocol),
            icmp: (kind < 100).then_some((kind % 4, more % 2)),
            reason: Reason::from_number(more),
            state: State::from_number(kind),
            direction: (more > 2).then_some(Direction::ALL[usize::from(more % 2)]),
            ..Subject::default()
        };
        let names = Recorded::default();
        let query = parse(&line).check(&names).unwrap();
        let negated = parse(&format!("{line} --not")).check(&names).unwrap();
        prop_assert_ne!(query.matches(&subject), negated.matches(&subject));
        // One more filter never chooses more.
        let narrower = parse(&format!("{line} --to 10.0.0.0/25")).check(&names).unwrap();
        prop_assert!(query.matches(&subject) || !narrower.matches(&subject));
    }

    #[test]
    fn any_line_is_a_query_or_an_error_of_one_line(line in ".{0,60}") {
        if let Err(error) = Query::from_line(&line) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}

#[test]
fn a_service_is_of_its_protocol_and_a_flow_that_was_ended_is_denied() {
    let web = rule('1', 'a', "web");
    let names = names(&[tcp(&web)]);
    let matches =
        |line: &str, subject: Subject<'_>| parse(line).check(&names).unwrap().matches(&subject);
    let to = |port| Subject { destination_port: Some(port), ..tcp(&web) };
    let udp = |port| Subject { protocol: Some(17), ..to(port) };
    // SSH has a port of TCP only; DNS of both.
    assert!(matches("--port ssh", to(22)) && !matches("--port ssh", udp(22)));
    assert!(matches("--port 22", to(22)) && matches("--port 22", udp(22)));
    assert!(matches("--port domain", to(53)) && matches("--port domain", udp(53)));
    for (reason, is_denied) in [
        (Reason::NoRule, true),
        (Reason::NoPolicy, true),
        (Reason::Revoked, true),
        (Reason::Acl, false),
        (Reason::Blocked, false),
        (Reason::Admitted, false),
    ] {
        let subject = Subject { reason: Some(reason), ..tcp(&web) };
        assert_eq!(matches("--default-deny", subject), is_denied, "{reason:?}");
    }
}

#[test]
fn the_rule_of_a_record_is_the_one_that_let_it_pass_or_else_the_nearest() {
    let (web, ssh) = (rule('1', 'a', "web"), rule('2', 'b', "ssh"));
    let miss = crate::observe::record::NearestMiss {
        rule: ssh.clone(),
        field: "port".to_owned(),
        rule_value: "22".to_owned(),
        packet_value: "443".to_owned(),
    };
    let of = |rule: Option<&RuleName>, nearest_miss| {
        let record =
            PacketRecord { rule: rule.cloned(), nearest_miss, ..PacketRecord::sample(0, 1) };
        Subject::from(&record).rule.cloned()
    };
    assert_eq!(of(None, None), None);
    assert_eq!(of(None, Some(miss.clone())), Some(ssh));
    assert_eq!(of(Some(&web), Some(miss)), Some(web));
}
