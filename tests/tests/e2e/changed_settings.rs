//! Settings that change while an interface is attached: sizes of maps in the configuration, and groups and
//! options of `attach`.

use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};

use crate::support::{count_flows, interface_state};

/// The capacities of the tables of one kind, by family.
fn capacities(secgroup: &Secgroup<'_>, table: &str) -> Vec<u64> {
    let status = secgroup.json("status");
    let tables = status["FlowTables"].as_array().unwrap().iter();
    let chosen = tables.filter(|one| one["Table"] == table);
    chosen.map(|one| one["Capacity"].as_u64().unwrap()).collect()
}

fn with_web(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    secgroup
}

#[test]
fn reconcile_applies_the_sizes_of_the_configuration_and_keeps_flows() {
    let net = Pair::new();
    let secgroup = with_web(&net);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, b"hello").unwrap();
    // Without the rule nothing opens the flow again.
    secgroup.ok("rule remove web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    let reconcile = || {
        let output = secgroup.run(["reconcile"]);
        assert_eq!(output.code, Some(0), "{output}");
        let lines = output.stdout.lines().skip(1).map(|line| line.split_once(' ').unwrap().1);
        (lines.map(ToOwned::to_owned).collect::<Vec<_>>(), output.stderr)
    };
    assert_eq!(reconcile(), (vec![], String::new()), "nothing has changed");

    secgroup.configure(
        "[maps]\nflows_new = 2048\nflows_udp = 1024\nflows_tcp = 512\nfragments = 64\nrules = \
         8192\ninterfaces = 8\n",
    );
    let notes = "secgroup: maps.rules 4096 -> 8192: takes effect at the next boot, or with `secgroup detach \
                 --all` and attaching again (nothing is filtered in between)\n";
    let notes = notes.to_owned();
    let applied = "applied; the flows that fit are kept";
    let lines = vec![
        format!("eth0: maps.flows_new 1024 -> 2048: {applied}"),
        format!("eth0: maps.flows_tcp 1024 -> 512: {applied}"),
        format!("eth0: maps.fragments 1024 -> 64: {applied}"),
    ];
    secgroup.moved_over_flows(&[], || {
        assert_eq!(reconcile(), (lines, notes.clone()));
        tcp::exchange(&mut stream, b"still there").unwrap();
    });
    assert_eq!(capacities(&secgroup, "new"), [2048; 2]);
    assert_eq!(capacities(&secgroup, "tcp"), [512; 2]);
    assert_eq!(count_flows(&secgroup, "--protocol tcp"), 1);
    // What cannot be applied is said each time.
    assert_eq!(reconcile(), (vec![], notes));

    secgroup.configure("[maps]\nflows_new = 2048\nflows_udp = 1024\nflows_tcp = 512\nfragments = 64\nrules = 16\ninterfaces = 1\n");
    for port in 0..20 {
        secgroup
            .ok(&format!("rule add web ingress --protocol udp --port {port} --cidr 10.0.0.0/8"));
    }
    let (lines, notes) = reconcile();
    assert!(lines.is_empty());
    let notes: Vec<_> = notes.lines().collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].ends_with("; what is attached now does not fit into it"), "{notes:?}");
    assert!(
        notes[1].contains("maps.interfaces 8 -> 1")
            && notes[1].ends_with("(nothing is filtered in between)")
    );
}

#[test]
fn tables_stay_as_they_were_where_there_is_no_memory_for_others() {
    let net = Pair::new();
    let secgroup = with_web(&net);
    secgroup.configure("[maps]\nflows_new = 4096\nflows_udp = 1024\nflows_tcp = 1024\nrules = 4096\ninterfaces = 8\n");
    let meminfo = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&meminfo, "MemAvailable:        100 kB\n").unwrap();
    let script =
        format!("mount --bind {} /proc/meminfo && exec \"$0\" \"$@\"", meminfo.path().display());
    let run = |line| {
        let mut command =
            secgroup.command_under(&["unshare", "--mount", "sh", "-c", &script], line);
        let output = CommandOutput::of(&mut command);
        assert_eq!(output.code, Some(1), "{output}");
        output
    };
    let output = run("attach eth0 --tcp strict");
    assert!(output.stderr.contains("the flow tables of eth0 take "), "{output}");
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][0]["Tcp"], "guard");
    let output = run("reconcile");
    assert!(
        output
            .stderr
            .contains("eth0: maps.flows_new 1024 -> 4096: not applied: the tables would take ")
            && output.stderr.contains(", and 100 KiB are available\n"),
        "{output}"
    );
    assert_eq!(capacities(&secgroup, "new"), [1024; 2]);
    assert_eq!(interface_state(&secgroup), "enforcing");
    secgroup.ok("reconcile");
    assert_eq!(capacities(&secgroup, "new"), [4096; 2]);
}

#[test]
fn a_group_is_added_and_removed_while_packets_pass() {
    let net = Pair::new();
    let secgroup = with_web(&net);
    secgroup.ok("group create ssh --description x");
    secgroup.ok("rule add ssh ingress --protocol tcp --port 22 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --timeout UdpTimeout=7 --max-flows 64 --mode enforce");
    let [web, ssh] = [80, 22].map(|port| TcpServer::echo(&net.server, at(Pair::SERVER, port)[0]));
    let mut stream = tcp::connect(&net.client, web.address()).unwrap();
    tcp::exchange(&mut stream, b"hello").unwrap();
    let described = || {
        let status = secgroup.json("status");
        let interface = &status["NetworkInterfaces"][0];
        assert_eq!(capacities(&secgroup, "tcp"), [64; 2], "options stay");
        assert_eq!(interface["ConnectionTrackingConfiguration"]["UdpTimeout"], 7, "{interface}");
        let groups = interface["Groups"].as_array().unwrap().iter();
        groups.map(|one| one["GroupName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(described(), ["web"]);
    let fails = |port| {
        let ends = at(Pair::SERVER, port);
        tcp::connect_within(&net.client, ends[0], std::time::Duration::from_millis(300)).is_err()
    };
    assert!(fails(22));
    let change = |line: &str, stream: &mut std::net::TcpStream| {
        secgroup.ok(line);
        tcp::exchange(stream, b"still there").unwrap();
    };
    change("attach eth0 --add-group ssh", &mut stream);
    assert_eq!(described(), ["web", "ssh"]);
    let mut second = tcp::connect(&net.client, ssh.address()).unwrap();
    tcp::exchange(&mut second, b"hello").unwrap();
    // Once more: there is nothing to do.
    change("attach eth0 --add-group ssh", &mut stream);
    assert_eq!(described(), ["web", "ssh"]);
    change("attach eth0 --remove-group web", &mut stream);
    assert_eq!(described(), ["ssh"]);
    assert!(fails(80), "no rule of a group that was removed");
    change("attach eth0 --tcp-loose off", &mut stream);
    assert_eq!(described(), ["ssh"]);
    let refused = secgroup.refused("attach eth0 --remove-group ssh", 2);
    assert!(refused.contains("it would have no group left"), "{refused}");
    tcp::exchange(&mut second, b"still there").unwrap();
}
