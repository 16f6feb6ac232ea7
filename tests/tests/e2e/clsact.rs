//! Filters of a clsact qdisc, used where the kernel has no TCX, give the same guarantees.

use std::fs;
use std::time::Duration;

use aya::programs::loaded_programs;
use secgroup_tests::network::{End, at, join};
use secgroup_tests::process::output;
use secgroup_tests::seccomp::without_bpf;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, Secgroup, udp};

// Commands of bpf(2).
const OBJ_PIN: u32 = 6;
const LINK_CREATE: u32 = 28;

/// Runs `tc` for a namespace, the arguments split at spaces; returns what it prints.
fn tc(namespace: &Namespace, arguments: &str) -> String {
    // `tc -n` would hide /sys/fs/bpf.
    output(namespace.command("tc").args(arguments.split_whitespace()))
}

fn filters(namespace: &Namespace) -> [String; 2] {
    ["ingress", "egress"]
        .map(|direction| tc(namespace, &format!("filter show dev eth0 {direction}")))
}

fn qdisc(namespace: &Namespace) -> String {
    tc(namespace, "qdisc show dev eth0 clsact")
}

fn with_group(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup
}

fn assert_filtered(net: &Pair, secgroup: &Secgroup<'_>) {
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let dropped = || secgroup.counters().packets("eth0", "ingress", "no-rule");
    let before = dropped();
    assert!(tcp::none_reaches(&net.client, &ends), "{}", secgroup.view());
    // At least two: a slow emulated machine may send a SYN twice.
    assert!(dropped() >= before + 2, "{}", secgroup.view());
}

#[test]
fn a_kernel_without_tcx_uses_clsact() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    let mut command = secgroup.command(["attach", "eth0", "--group", "fresh"]);
    // Linux 6.1 returns this for an unknown link type.
    without_bpf(&mut command, Some(LINK_CREATE), libc::EINVAL);
    output(&mut command);
    let status = secgroup.json("status");
    let interface = &status["NetworkInterfaces"][0];
    assert_eq!((&interface["State"], &interface["Hook"]), (&"enforcing".into(), &"clsact".into()));
    let why = "native XDP would switch off the receive offload of veth, and this kernel has no TCX";
    assert_eq!(interface["HookReason"], why);
    assert_filtered(&net, &secgroup);

    let mut command = secgroup.command(["attach", "eth0", "--group", "fresh", "--hook", "tcx"]);
    without_bpf(&mut command, Some(LINK_CREATE), libc::EINVAL);
    let answer = CommandOutput::of(&mut command);
    assert_eq!(answer.code, Some(1), "{answer}");
    let hint = "hint: TCX needs Linux 6.6 or newer: use --hook clsact, or auto\n";
    assert!(answer.stderr.ends_with(hint), "{answer}");
    assert_filtered(&net, &secgroup);
}

#[test]
fn filters_whose_pins_are_gone_are_replaced_and_detached() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    let servers = [80, 81].map(|port| TcpServer::echo(&net.server, at(Pair::SERVER, port)[0]));
    secgroup.ok("rule add fresh ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    let is_connected = |server: usize| {
        let limit = Duration::from_millis(300);
        tcp::connect_within(&net.client, servers[server].address(), limit).is_ok()
    };
    let remove_pins = || {
        fs::remove_dir_all(secgroup.pin_dir()).unwrap();
        // The kernel empties the array of the slow path some time after its last pin. Then ARP is dropped too.
        wait_until(MAX_WAIT, "the filters to drop", || !is_connected(0));
    };
    remove_pins();
    secgroup.ok("reconcile");
    // The client asks for the address again within a second.
    wait_until(MAX_WAIT, "a connection", || is_connected(0));
    assert!(!tcp::reaches(&net.client, servers[1].address()), "{}", secgroup.view());
    for listed in filters(&net.server) {
        assert_eq!(listed.matches(" handle ").count(), 1, "{listed}");
    }

    remove_pins();
    secgroup.ok("detach --all");
    for listed in filters(&net.server) {
        assert_eq!(listed.matches(" handle ").count(), 0, "{listed}");
    }
    wait_until(MAX_WAIT, "a connection", || is_connected(1));
}

#[test]
fn a_failed_attach_leaves_the_device_unchanged() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    // With the maps present, the next object to be pinned is one of the interface's tables.
    net.server.ip("link add eth1 type veth peer name eth2");
    secgroup.ok("attach eth1 --group fresh --hook clsact");
    let attach_without_pinning = |option: &str| {
        let line = format!("attach eth0 --group fresh --hook clsact{option}");
        let mut command = secgroup.command(line.split(' '));
        without_bpf(&mut command, Some(OBJ_PIN), libc::EPERM);
        let answer = CommandOutput::of(&mut command);
        assert_eq!(answer.code, Some(1), "{answer}");
    };
    attach_without_pinning("");
    assert_eq!((filters(&net.server), qdisc(&net.server).as_str()), (Default::default(), ""));
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    let before = filters(&net.server);
    // With another setting a program is pinned.
    attach_without_pinning(" --revalidate on");
    assert_eq!(filters(&net.server), before);
    assert_filtered(&net, &secgroup);
}

#[test]
fn filters_of_other_programs_stay() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    let other = "filter add dev eth0 ingress pref 9 protocol ip u32 match u32 0 0 flowid 1:1";
    // The qdisc exists before the attach, or secgroup creates it and another program adds a filter.
    for qdisc_exists in [true, false] {
        if qdisc_exists {
            tc(&net.server, "qdisc add dev eth0 clsact");
        } else {
            secgroup.ok("attach eth0 --group fresh --hook clsact");
        }
        tc(&net.server, other);
        secgroup.ok("attach eth0 --group fresh --hook clsact");
        assert_filtered(&net, &secgroup);
        secgroup.ok("detach eth0");
        let [ingress, egress] = filters(&net.server);
        assert!(ingress.contains("pref 9 u32") && !ingress.contains("bpf"), "{ingress}");
        assert_eq!(egress, "");
        tc(&net.server, "qdisc del dev eth0 clsact");
    }
    // A qdisc of another program stays even without filters.
    tc(&net.server, "qdisc add dev eth0 clsact");
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    secgroup.ok("detach eth0");
    assert!(qdisc(&net.server).contains("clsact"));
}

#[test]
fn the_last_detach_removes_filters_and_qdisc() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    // The filters are replaced, not added.
    secgroup.ok("reconcile");
    secgroup.ok("attach eth0 --group fresh");
    for shown in filters(&net.server) {
        assert_eq!(shown.matches("direct-action").count(), 1, "{shown}");
    }
    let programs: Vec<u32> = filters(&net.server).iter().map(|shown| program_id(shown)).collect();
    secgroup.ok("detach --all");
    assert!(!secgroup.pin_dir().exists());
    assert_eq!((filters(&net.server), qdisc(&net.server).as_str()), (Default::default(), ""));
    wait_until(MAX_WAIT, "the programs to be gone", || {
        loaded_programs().flatten().all(|program| !programs.contains(&program.id()))
    });
}

/// The ID of the program in a listing of one filter: `… direct-action … id 12 …`.
fn program_id(shown: &str) -> u32 {
    let mut words = shown.split_whitespace().skip_while(|word| *word != "id");
    words.nth(1).and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no program in {shown}"))
}

#[test]
fn a_filter_that_runs_before_ours_is_refused() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    for direction in ["ingress", "egress"] {
        tc(&net.server, "qdisc add dev eth0 clsact");
        let other = format!(
            "filter add dev eth0 {direction} pref 1 protocol ip u32 match u32 0 0 flowid 1:1"
        );
        tc(&net.server, &other);
        let before = filters(&net.server);
        let message = secgroup.refused("attach eth0 --group fresh --hook clsact", 1);
        assert_eq!(
            message,
            "error: attach eth0: attach clsact to eth0: the u32 filter of preference 1 would \
             run first\nhint: add that filter again with a larger preference (`tc filter`): \
             secgroup must be first\n"
        );
        assert_eq!(filters(&net.server), before);
        assert!(!secgroup.pin_dir().exists(), "{}", secgroup.view());
        tc(&net.server, "qdisc del dev eth0 clsact");
    }
    tc(&net.server, "qdisc add dev eth0 ingress");
    let message = secgroup.refused("attach eth0 --group fresh --hook clsact", 1);
    assert!(
        message.contains("its ingress qdisc prevents it\nhint: `tc qdisc del dev eth0 ingress`")
    );
}

#[test]
fn a_filter_added_before_ours_is_reported() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    let version = fs::read_dir(secgroup.pin_dir()).unwrap().next().unwrap().unwrap().path();
    let earlier_program = version.join("programs/clock");
    let earlier_program = format!("bpf direct-action object-pinned {}", earlier_program.display());
    tc(&net.server, &format!("filter add dev eth0 ingress pref 1 {earlier_program}"));
    let status = secgroup.json("status");
    let why = status["NetworkInterfaces"][0]["HookReason"].as_str().unwrap().to_owned();
    let words = "as configured; but the bpf filter of preference 1 with program sg_clock (id ";
    assert!(why.starts_with(words) && why.ends_with(") runs before it"), "{why}");
}

#[test]
fn filters_missing_from_the_store_are_removed() {
    let net = Pair::new();
    let secgroup = Secgroup::new();
    secgroup.ok("group create fresh --description x");
    let attach = format!("attach eth0 --netns {} --group fresh --hook clsact", net.server.name());
    secgroup.ok(&attach);
    fs::remove_dir_all(secgroup.state_dir()).unwrap();
    let message = secgroup.ok("reconcile --adopt");
    assert!(message.contains("slot 0"), "{message}");
    assert_eq!((filters(&net.server), qdisc(&net.server).as_str()), (Default::default(), ""));
}

#[test]
fn a_recreated_device_is_filtered_after_reconcile() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    net.server.ip("link delete eth0");
    secgroup.ok("reconcile");
    join([
        End { namespace: &net.server, device: "eth0", addresses: &["10.77.0.1/24", "fd77::1/64"] },
        End { namespace: &net.client, device: "eth0", addresses: &["10.77.0.2/24", "fd77::2/64"] },
    ]);
    assert_eq!(secgroup.status()["NetworkInterfaces"][0]["State"], "not-enforcing");
    // Another program adds the qdisc of the new device.
    tc(&net.server, "qdisc add dev eth0 clsact");
    secgroup.ok("reconcile");
    assert_filtered(&net, &secgroup);
    secgroup.ok("detach eth0");
    assert!(qdisc(&net.server).contains("clsact"));
}

#[test]
fn no_packet_passes_while_a_filter_is_replaced() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    let receivers = at(Pair::SERVER, 9).map(|end| udp::bind(&net.server, end));
    let ((), sent) = udp::while_flooding(&net.client, &at(Pair::SERVER, 9), || {
        for _ in 0..5 {
            secgroup.ok("reconcile");
        }
    });
    assert!(sent.iter().all(|sent| *sent > 100), "{sent:?}: too few packets for a flood");
    for receiver in &receivers {
        receiver.set_nonblocking(true).unwrap();
        assert!(receiver.recv(&mut [0; 64]).is_err(), "a packet passed");
    }
}

/// A command may be killed between any two steps; the next one recovers.
#[test]
fn an_interrupted_replacement_is_completed() {
    let net = Pair::new();
    let secgroup = with_group(&net);
    secgroup.ok("attach eth0 --group fresh --hook clsact");
    let version = fs::read_dir(secgroup.pin_dir()).unwrap().next().unwrap().unwrap().path();
    let pin = |name: &str| version.join("programs").join(name);
    // The filter runs the new program, whose pin is not yet renamed over the old one.
    fs::rename(pin("0_clsact_rx"), pin("0_clsact_rx_next")).unwrap();
    fs::hard_link(pin("clock"), pin("0_clsact_rx")).unwrap_or_else(|error| {
        panic!("pin another program: {error}");
    });
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][0]["State"], "enforcing");
    secgroup.ok("reconcile");
    assert!(!pin("0_clsact_rx_next").exists());
    let [ingress, _] = filters(&net.server);
    assert_eq!(ingress.matches("direct-action").count(), 1, "{ingress}");
    assert_filtered(&net, &secgroup);
}
