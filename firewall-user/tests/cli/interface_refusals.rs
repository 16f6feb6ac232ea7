//! Refusals of the commands about interfaces, flows and metrics.

use crate::fixture::{Fixture, SEE_GROUPS};
use crate::host::{Done, Host};

#[test]
fn attach_refuses_invalid_arguments() {
    let fixture = Fixture::new();
    let attach = |args: &str, code, message: &str| {
        let args: Vec<_> =
            format!("attach eth7 --group {args}").split(' ').map(Into::into).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        fixture.refuses(&args, code, &format!("error: attach eth7: {message}"));
    };
    attach("nope", 3, &format!("there is no group \"nope\"{SEE_GROUPS}"));
    attach("web --group nope", 3, &format!("there is no group \"nope\"{SEE_GROUPS}"));
    attach(
        "sg-123",
        2,
        "\"sg-123\" is not an id of the form sg-… with 17 hexadecimal digits\n\
         hint: `secgroup group list` shows the ids",
    );
    attach("web --group {web}", 2, "group web is given twice");
    let form = " is not STATE=SECONDS\nhint: write for example TcpEstablishedTimeout=350";
    let states = "\nhint: `secgroup attach --help` lists the states";
    let seconds = "is not a number of seconds from 1 to 4294967295\n\
                   hint: write for example TcpEstablishedTimeout=350";
    for (timeout, message) in [
        ("UdpTimeout", form.to_owned()),
        ("UdpTimeout:5", form.to_owned()),
        ("Tcp=1", format!(": unknown state \"Tcp\"{states}")),
        ("=1", format!(": unknown state \"\"{states}")),
        ("UdpTimeout=", format!(": \"\" {seconds}")),
        ("UdpTimeout=0", format!(": \"0\" {seconds}")),
        ("UdpTimeout=1m", format!(": \"1m\" {seconds}")),
        ("UdpTimeout=-5", format!(": \"-5\" {seconds}")),
        ("UdpTimeout=4294967296", format!(": \"4294967296\" {seconds}")),
    ] {
        let args = format!("web --timeout {timeout}");
        attach(&args, 2, &format!("timeout {timeout:?}{message}"));
    }
    attach(
        "web --tcp-loose on --tcp strict",
        2,
        "--tcp-loose on cannot be used with --tcp strict\nhint: use --tcp guard",
    );
}

#[test]
fn attach_refuses_invalid_ether_types() {
    let fixture = Fixture::new();
    let attach = |args: &str, code, message: &str| {
        let args = format!("attach eth7 --group web {args}");
        let args: Vec<_> = args.split(' ').collect();
        fixture.refuses(&args, code, &format!("error: attach eth7: {message}"));
    };
    for word in ["0x5ff", "35063", "none,ptp"] {
        attach(
            &format!("--ether-type {word}"),
            2,
            &format!(
                "unknown EtherType \"{word}\"\nhint: write a number as in 0x88f7, at least 0x0600, or one of \
                 batman, cfm, eapol, ethercat, fcoe, fip, lldp, macsec, mrp, mvrp, profinet, ptp, rarp, trill"
            ),
        );
    }
    attach(
        "--ether-type ptp --ether-type 0x86DD",
        2,
        "frames of EtherType 0x86DD are decided by rules, or always pass\n\
         hint: name only types other than IPv4, IPv6, ARP and VLAN tags",
    );
    let nine: String = (0x9000..0x9009).map(|one| format!(" --ether-type {one:#x}")).collect();
    attach(
        nine.trim(),
        1,
        "eth7 would have 9 EtherTypes, and the limit is 8\nhint: --non-ip all passes every type",
    );
}

#[test]
fn attach_refuses_invalid_port_security() {
    let fixture = Fixture::new();
    let attach = |args: &str, code, message: &str| {
        let args = format!("attach eth7 --group web {args}");
        let args: Vec<_> = args.split(' ').collect();
        fixture.refuses(&args, code, &format!("error: attach eth7: {message}"));
    };
    for option in ["--address", "--allow-address"] {
        let refuse = |word: &str, message: &str| {
            attach(&format!("--orientation guest {option} {word}"), 2, message);
        };
        refuse(
            "10.0.0.7/24",
            "10.0.0.7 is not the first address of 10.0.0.0/24\n\
             hint: write 10.0.0.7 for this one address, or 10.0.0.0/24 for the network",
        );
        refuse(
            "ff02::1",
            "ff02::1/128 is not an address that a guest can have\n\
             hint: every guest may use multicast and broadcast",
        );
        refuse(
            "vm",
            "CIDR \"vm\" is not ADDRESS/LENGTH\n\
             hint: write for example 10.0.0.0/8 or 2001:db8::/32",
        );
    }
    attach(
        "--orientation guest --address ::/0",
        2,
        "::/0 is not a network of an interface\n\
         hint: --allow-address ::/0 lets a guest use every address",
    );
    for mac in ["52:54:00:12:34", "ff:ff:ff:ff:ff:ff", "none,none"] {
        attach(
            &format!("--orientation guest --mac {mac}"),
            2,
            &format!(
                "\"{mac}\" is not the MAC address of a device\nhint: write for example 52:54:00:12:34:56"
            ),
        );
    }
    for option in [
        "--allow-address 10.0.0.0/8",
        "--mac 52:54:00:12:34:56",
        "--source-dest-check on",
        "--guest-router on",
    ] {
        let name = option.trim_end_matches(" 10.0.0.0/8").trim_end_matches(" 52:54:00:12:34:56");
        attach(option, 2, &format!("{name} is for guests\nhint: add --orientation guest"));
    }
    attach(
        "--orientation guest --source-dest-check on",
        2,
        "--source-dest-check on needs the addresses of the guest\nhint: name them with --address",
    );
    let many: Vec<_> = (0..17).map(|host| format!("--address 10.0.{host}.1")).collect();
    attach(
        &format!("--orientation guest {}", many.join(" ")),
        1,
        "guest eth7 would have 17 IPv4 addresses and networks, and the limit is 16\n\
         hint: name networks instead of addresses, or use --source-dest-check off",
    );
}

#[test]
fn groups_of_an_attached_interface_are_added_and_removed_only_where_that_makes_sense() {
    let fixture = Fixture::new();
    let refuses = |args: &str, message: &str| {
        let args: Vec<_> = format!("attach {args}").split(' ').map(Into::into).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        fixture.refuses(&args, 2, &format!("error: attach {}: {message}", args[1]));
    };
    for args in ["eth9 --add-group web", "eth9 --tcp strict", "tap0 --add-group web", "eth9"] {
        let device = args.split(' ').next().unwrap();
        let args: Vec<_> = format!("attach {args}").split(' ').map(Into::into).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        fixture.refuses(
            &args,
            3,
            &format!(
                "error: attach {device}: without --group it must be attached already: there is no \
                 attached interface \"{device}\"\nhint: `secgroup status` shows the interfaces"
            ),
        );
    }
    // Without a store nothing is attached, and none is made.
    let host = Host::new();
    assert_eq!(host.run(&["attach", "eth0", "--tcp", "strict"]).code, 3);
    assert!(!host.state_dir().exists());
    refuses(
        "eth0 --remove-group web",
        "it would have no group left\n\
         hint: `secgroup detach` ends enforcement; a group without rules blocks all traffic",
    );
    refuses(
        "vm1/tap0 --add-group own --remove-group own",
        "group own is both added and removed\nhint: name it once",
    );
    fixture.refuses(
        &["attach", "eth0", "--add-group", "nope"],
        3,
        &format!("error: attach eth0: there is no group \"nope\"{SEE_GROUPS}"),
    );
}

#[test]
fn an_interface_of_a_namespace_is_named_as_it_is_printed() {
    let fixture = Fixture::new();
    for (words, found) in [
        ("vm1/tap0", true),
        ("tap0 --netns vm1", true),
        ("vm1/tap0 --netns vm1", true),
        ("tap0", false),
        ("vm2/tap0", false),
        ("eth0 --netns vm1", false),
    ] {
        for (before, after) in
            [("status", ""), ("stats", ""), ("mode", "enforce"), ("flows list --interface", "")]
        {
            let line = format!("{before} {words} {after}");
            let done = fixture.host.run(&line.split_whitespace().collect::<Vec<_>>());
            let is_missing = done.stderr.contains("there is no attached interface");
            assert_eq!(is_missing, !found, "{line}: {done:?}");
        }
    }
    let done = fixture.host.run(&["status", "vm1/tap0", "--netns", "vm2"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        done.stderr.contains("vm1/tap0 is in namespace vm1, and --netns names vm2"),
        "{done:?}"
    );
}

#[test]
fn flows_are_not_found_when_nothing_is_attached() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    // The commands that write to maps need capabilities first; the suite `e2e` has them.
    for args in ["flows list", "flows count"] {
        let done = host.run(&args.split(' ').collect::<Vec<_>>());
        let stderr = format!(
            "error: {args}: nothing is attached\nhint: `secgroup attach IFACE --group GROUP` \
             attaches an interface; `secgroup reconcile` attaches the stored ones\n"
        );
        assert_eq!(done, Done { code: 3, stdout: String::new(), stderr }, "{args}");
    }
}

#[test]
fn a_filter_by_rule_needs_a_rule_that_exists_or_existed() {
    let fixture = Fixture::new();
    for verb in ["list", "count", "flush"] {
        fixture.refuses(
            &["flows", verb, "--rule", "sgr-0123456789abcdef0"],
            3,
            &format!(
                "error: flows {verb}: there never was a rule sgr-0123456789abcdef0\n\
                 hint: `secgroup rule list` shows the rules"
            ),
        );
    }
    // A deleted rule is known, as its flows live on. The maps in the kernel are missing here.
    fixture.host.detach_all();
    fixture.host.ok(&["rule", "remove", "web", &fixture.word("http")]);
    let done = fixture.host.run(&["flows", "list", "--rule", &fixture.word("http")]);
    assert!(done.stderr.starts_with("error: flows list: nothing is attached\n"), "{done:?}");
}

#[test]
fn invalid_usage_exits_with_2_and_creates_nothing() {
    let host = Host::new();
    for (args, first) in [
        (
            "attach eth0 --group web --add-group db",
            "the argument '--group <GROUP>' cannot be used with '--add-group <GROUP>'",
        ),
        (
            "attach blue/eth0 --netns red --group web",
            "attach blue/eth0: blue/eth0 is in namespace blue",
        ),
        ("mode a/b/eth0 audit", "mode a/b/eth0: \"a/b/eth0\" is not DEVICE or NAMESPACE/DEVICE"),
        ("detach blue/eth0 --netns red", "detach blue/eth0: blue/eth0 is in namespace blue"),
        ("attach eth0 web", "unexpected argument 'web' found"),
        ("attach eth0 --group web --hook tc", "invalid value 'tc' for '--hook <HOOK>'"),
        (
            "attach eth0 --group web --orientation inside",
            "invalid value 'inside' for '--orientation <ORIENTATION>'",
        ),
        ("attach eth0 --group web --address", "a value is required for '--address <ADDRESS|CIDR>'"),
        (
            "attach eth0 --group web --source-dest-check auto",
            "invalid value 'auto' for '--source-dest-check <SOURCE_DEST_CHECK>'",
        ),
        (
            "attach eth0 --group web --guest-router yes",
            "invalid value 'yes' for '--guest-router <GUEST_ROUTER>'",
        ),
        (
            "attach eth0 --group web --address 10.0.0.7/24",
            "attach eth0: 10.0.0.7 is not the first address of 10.0.0.0/24",
        ),
        ("attach eth0 --group web --non-ip arp", "invalid value 'arp' for '--non-ip <NON_IP>'"),
        ("attach eth0 --group web --tcp loose", "invalid value 'loose' for '--tcp <TCP>'"),
        (
            "attach eth0 --group web --tcp-loose yes",
            "invalid value 'yes' for '--tcp-loose <TCP_LOOSE>'",
        ),
        (
            "attach eth0 --group web --tracking never",
            "invalid value 'never' for '--tracking <TRACKING>'",
        ),
        ("detach", "the following required arguments were not provided:"),
        ("detach eth0 --all", "the argument '[IFACE]' cannot be used with '--all'"),
        ("detach eth0 eth1", "unexpected argument 'eth1' found"),
        ("status --output yaml", "invalid value 'yaml' for '--output <OUTPUT>'"),
        ("status --netns vm1", "the following required arguments were not provided:"),
        ("stats --output yaml", "invalid value 'yaml' for '--output <OUTPUT>'"),
        ("flows", "'secgroup flows' requires a subcommand but one was not provided"),
        (
            "flows list --protocol foo",
            "invalid value 'foo' for '--protocol <PROTOCOL>': icmp, igmp, ipip, tcp, udp,",
        ),
        (
            "flows list --address foo",
            "invalid value 'foo' for '--address <CIDR>': write an address",
        ),
        ("flows list --port 65536", "invalid value '65536' for '--port <PORT>'"),
        ("flows list --reason no-rule", "flows list: flows have no reason: their packets passed"),
        ("flows count --default-deny", "flows count: flows have no reason"),
        ("flows list --not", "flows list: --not without another filter chooses nothing"),
        ("flows list --sort size", "invalid value 'size' for '--sort <SORT>'"),
        (
            "flows top --interval 10ms",
            "invalid value '10ms' for '--interval <DURATION>': at least 100ms",
        ),
        ("flows watch --interval x", "invalid value 'x' for '--interval <DURATION>'"),
        ("flows list --tier old", "invalid value 'old' for '--tier <TIER>'"),
        ("flows list --state open", "invalid value 'open' for '--state <STATE>'"),
        (
            "flows flush --rule sgr-1",
            "invalid value 'sgr-1' for '--rule <RULE-ID>': \"sgr-1\" is not an id of the form \
             sgr-… with 17 hexadecimal digits",
        ),
        (
            "serve --metrics 9911",
            "invalid value '9911' for '--metrics <ADDRESS:PORT|unix:PATH>': write an IP address and a port, \
             for example 127.0.0.1:9911",
        ),
        ("serve --metrics 127.0.0.1:99999", "invalid value '127.0.0.1:99999' for '--metrics"),
        ("metrics eth0", "unexpected argument 'eth0' found"),
        ("gc eth0", "unexpected argument 'eth0' found"),
        ("reconcile eth0", "unexpected argument 'eth0' found"),
        ("atach eth0", "unrecognized subcommand 'atach'"),
        ("--state-dir", "a value is required for '--state-dir <DIR>' but none was supplied"),
    ] {
        let done = host.run(&args.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{args}");
        assert!(done.stderr.starts_with(&format!("error: {first}")), "{args}: {}", done.stderr);
    }
    assert!(!host.state_dir().exists(), "a refused command makes nothing");
}

#[test]
fn a_document_that_cannot_be_read_is_refused() {
    let fixture = Fixture::new();
    fixture.refuses(
        &["apply", "/no/such"],
        1,
        "error: apply /no/such: No such file or directory (os error 2)",
    );
    fixture.refuses(&["apply", "/"], 1, "error: apply /: Is a directory (os error 21)");
    fixture.refuses(&["apply", "/dev/zero"], 1, "error: apply /dev/zero: larger than 256 MiB");
}
