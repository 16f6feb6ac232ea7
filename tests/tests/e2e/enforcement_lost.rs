//! Enforcement that ends outside of secgroup: everything that reports says so, and `serve` repairs it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use firewall_ebpf::abi::limits::ABI_VERSION;
use firewall_user::config::{Config, Paths};
use firewall_user::control::repair::{Depth, Repairs};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secgroup_tests::foreign_xdp::ForeignXdp;
use secgroup_tests::http::get_any_status;
use secgroup_tests::network::at;
use secgroup_tests::notify::Notify;
use secgroup_tests::pinned_link::{detach_link, replace_program};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_for, wait_until};
use secgroup_tests::{Pair, Process, Secgroup};

use crate::support::{interface_state, metric};

/// `status` exits with this if something stored is not enforced.
const NOT_ENFORCED: i32 = 5;

fn attached<'a>(net: &'a Pair, options: &str) -> (Secgroup<'a>, [TcpServer; 2]) {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create closed --description x");
    secgroup.ok(&format!("attach eth0 --group closed {options}"));
    let servers = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
    (secgroup, servers)
}

/// Removes the filters of an interface with the hook clsact.
fn delete_qdisc(net: &Pair) {
    let status = net.server.command("tc").args(["qdisc", "del", "dev", "eth0", "clsact"]).status();
    assert!(status.unwrap().success());
}

/// The samples of eth0 that tell whether it is enforced: enforcing, device present.
fn samples(text: &str) -> (u64, u64) {
    let of = |name: &str| metric(text, &format!("secgroup_{name}{{interface=\"eth0\"}}"));
    (of("enforcing"), of("device_present"))
}

#[test]
fn status_and_metrics_tell_each_kind_of_loss() {
    for hook in ["tcx", "xdp-generic", "clsact"] {
        let net = Pair::new();
        let (secgroup, servers) = attached(&net, &format!("--hook {hook}"));
        assert_eq!(samples(&secgroup.ok("metrics")), (1, 1));
        let acls = secgroup.json("acl list");
        let acl = acls["NetworkAcls"][0]["NetworkAclId"].as_str().unwrap().to_owned();
        let info = |hook: &str| {
            let labels = "interface=\"eth0\",mode=\"enforce\"";
            format!("secgroup_interface_info{{{labels},hook=\"{hook}\",acl=\"{acl}\"}}")
        };
        assert_eq!(metric(&secgroup.ok("metrics"), &info(hook)), 1);
        assert!(!tcp::reaches(&net.client, servers[0].address()));

        if hook == "clsact" {
            delete_qdisc(&net);
        } else {
            let place = if hook == "tcx" { "rx" } else { "xdp" };
            detach_link(&secgroup, place);
        }
        assert!(tcp::reaches(&net.client, servers[0].address()), "{hook}");
        let output = secgroup.run(["status"]);
        assert_eq!(output.code, Some(NOT_ENFORCED), "{hook}: {output}");
        let lost = "eth0: not enforced: the program for received packets is not on it";
        assert!(output.stdout.contains(lost), "{hook}: {output}");
        assert_eq!(secgroup.status()["NetworkInterfaces"][0]["State"], "not-enforcing");
        let text = secgroup.ok("metrics");
        assert_eq!(samples(&text), (0, 1), "{hook}");
        assert_eq!(metric(&text, &info("none")), 1, "{hook}");

        secgroup.ok("reconcile");
        secgroup.ok("status");
        let text = secgroup.ok("metrics");
        assert_eq!(samples(&text), (1, 1), "{hook}");
        assert_eq!(metric(&text, "secgroup_reconcile_success{interface=\"eth0\"}"), 1);
        let time = metric(&text, "secgroup_reconcile_timestamp_seconds{interface=\"eth0\"}");
        assert!(time > 1_700_000_000, "{time}");
        assert!(!tcp::reaches(&net.client, servers[0].address()));

        // Without a device there are no packets, so this is no loss.
        net.server.ip("link delete eth0");
        secgroup.ok("status");
        assert_eq!(samples(&secgroup.ok("metrics")), (0, 0), "{hook}");
    }
}

/// A device that comes between the look at all devices and the repair of another one is attached with that.
#[test]
fn a_device_that_appears_during_a_repair_is_reported() {
    let net = Pair::new();
    let (secgroup, _servers) = attached(&net, "--hook clsact");
    net.server.ip("link add late0 type veth peer name late1");
    secgroup.ok("attach late0 --group closed");
    net.server.ip("link delete late0");
    let pin_dir = secgroup.pin_dir().to_owned();
    let paths = Paths { state_dir: secgroup.state_dir(), pin_dir, config: None };
    let mut repairs = Repairs::default();
    let mut check = |on_loss: &(dyn Fn() + Sync)| {
        net.server.run(|| {
            let mut lines: Vec<String> = Vec::new();
            let mut report = |line: &str| {
                if line.starts_with("eth0: not enforced") {
                    on_loss();
                }
                lines.push(line.to_owned());
            };
            repairs.check(&paths, Config::default(), Depth::Devices, &mut report).unwrap();
            lines
        })
    };
    assert_eq!(check(&|| {}), [""; 0]);
    delete_qdisc(&net);
    let lines = check(&|| {
        net.server.ip("link add late0 type veth peer name late1");
    });
    let [_, first, second] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(first, "eth0 repaired: attached, clsact");
    assert!(second.starts_with("late0 appeared: attached, "), "{lines:?}");
    assert_eq!(check(&|| {}), [""; 0]);
}

#[test]
fn an_unconfirmed_change_and_its_deadline_are_in_the_metrics() {
    let net = Pair::new();
    let (secgroup, _servers) = attached(&net, "");
    let deadline = "secgroup_pending_change_deadline_timestamp_seconds";
    let before = secgroup.ok("metrics");
    assert_eq!((metric(&before, "secgroup_pending_change"), metric(&before, deadline)), (0, 0));
    let generation = "secgroup_policy_generation{interface=\"eth0\"}";
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    secgroup.ok("rule add closed ingress --protocol tcp --port 81 --cidr ::/0 --confirm 1h");
    let text = secgroup.ok("metrics");
    assert_eq!(metric(&text, "secgroup_pending_change"), 1);
    let left = metric(&text, deadline) - now;
    assert!((3590..=3660).contains(&left), "{left} s");
    assert_ne!(metric(&text, generation), metric(&before, generation));
    secgroup.ok("rollback");
    let text = secgroup.ok("metrics");
    assert_eq!((metric(&text, "secgroup_pending_change"), metric(&text, deadline)), (0, 0));
    assert_eq!(metric(&text, generation), metric(&before, generation));
}

#[test]
fn serve_names_programs_whose_pins_are_hidden_and_attaches_nothing() {
    let net = Pair::new();
    let (secgroup, servers) = attached(&net, "");
    let arguments = ["serve", "--metrics", "127.0.0.1:0", "--check-interval", "1s"];
    let serve = Notify::new().start(secgroup.command(arguments));
    let hidden = Hidden::over(secgroup.pin_dir());
    serve.wait_for_output(
        "eth0: not enforced: nothing is pinned in the pin directory; it has programs of",
    );
    let began = Instant::now();
    wait_until(MAX_WAIT, "later checks", || began.elapsed() > Duration::from_secs(3));
    assert!(!secgroup.pin_dir().join(format!("abi{ABI_VERSION}")).exists(), "pinned there");
    assert!(!tcp::reaches(&net.client, servers[0].address()));
    drop(hidden);
    serve.wait_for_output("eth0: enforced again");
    let lines = serve.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("eth0")).count(), 2, "{lines:?}");
}

/// Whoever removes the pins ends enforcement; `serve` has seen it and begins it again.
#[test]
fn serve_attaches_again_after_the_pins_were_removed() {
    let net = Pair::new();
    let (secgroup, servers) = attached(&net, "");
    let arguments = ["serve", "--metrics", "127.0.0.1:0", "--check-interval", "1s"];
    let serve = Notify::new().start(secgroup.command(arguments));
    fs::remove_dir_all(secgroup.pin_dir().join(format!("abi{ABI_VERSION}"))).unwrap();
    serve.wait_for_output("eth0 repaired: attached, ");
    wait_until(MAX_WAIT, "enforcement", || interface_state(&secgroup) == "enforcing");
    assert!(!tcp::reaches(&net.client, servers[0].address()));
}

/// Another process puts its program into our link.
#[test]
fn a_replaced_program_is_a_loss() {
    let net = Pair::new();
    let (secgroup, servers) = attached(&net, "--hook tcx");
    replace_program(&secgroup, "rx");
    assert!(tcp::reaches(&net.client, servers[0].address()));
    let output = secgroup.run(["status"]);
    assert_eq!(output.code, Some(NOT_ENFORCED), "{output}");
    secgroup.ok("reconcile");
    secgroup.ok("status");
    assert!(!tcp::reaches(&net.client, servers[0].address()));
}

#[test]
fn a_removed_device_is_missing() {
    let net = Pair::new();
    let (secgroup, _servers) = attached(&net, "");
    net.server.ip("link delete eth0");
    assert_eq!(interface_state(&secgroup), "device-missing");
    assert_eq!(samples(&secgroup.ok("metrics")), (0, 0));
}

#[test]
fn an_unreadable_store_is_in_the_metrics() {
    let net = Pair::new();
    let (secgroup, _servers) = attached(&net, "");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9911));
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]));
    serve.wait_for_output("metrics at");
    fs::write(
        secgroup.state_dir().join("secgroup.db"),
        "no store at all, and longer than a header",
    )
    .unwrap();
    for name in ["secgroup.db-wal", "secgroup.db-shm"] {
        let _ = fs::remove_file(secgroup.state_dir().join(name));
    }
    let text = wait_for(MAX_WAIT, "a scrape without the store", || {
        let (status, text) = get_any_status(&net.server, address, "/metrics").unwrap();
        assert_eq!(status, 200);
        (metric(&text, "secgroup_store_readable") == 0).then_some(text)
    });
    assert!(!text.contains("secgroup_enforcing{"), "{text}");
    let output = secgroup.run(["metrics"]);
    assert_eq!(output.code, Some(1), "{output}");
    assert_eq!(metric(&output.stdout, "secgroup_store_readable"), 0);
    serve.wait_for_output("scrape: ");
    assert_eq!(serve.lines().iter().filter(|line| line.contains("scrape: ")).count(), 1);
}

#[test]
fn serve_repairs_a_loss_and_reports_it_once() {
    for (hook, interval) in [("clsact", "1h"), ("tcx", "1s")] {
        let net = Pair::new();
        let (secgroup, servers) = attached(&net, &format!("--hook {hook}"));
        let arguments = ["serve", "--metrics", "127.0.0.1:0", "--check-interval", interval];
        let serve = Notify::new().start(secgroup.command(arguments));
        // The kernel announces that a qdisc was removed, and not that a link was detached.
        if hook == "clsact" {
            delete_qdisc(&net);
        } else {
            detach_link(&secgroup, "rx");
        }
        serve.wait_for_output(&format!("eth0 repaired: attached, {hook}"));
        assert_eq!(interface_state(&secgroup), "enforcing");
        assert!(!tcp::reaches(&net.client, servers[0].address()));
        serve.wait_for_output("eth0: not enforced: the program for received packets is not on it");
        let lines = serve.lines();
        assert_eq!(lines.iter().filter(|line| line.contains("eth0")).count(), 2, "{lines:?}");
    }
}

/// What cannot be repaired is reported once and tried again at each check of everything.
#[test]
fn serve_reports_a_loss_that_it_cannot_repair_once() {
    let net = Pair::new();
    let (secgroup, _servers) = attached(&net, "--hook xdp-generic");
    let arguments = ["serve", "--metrics", "127.0.0.1:0", "--check-interval", "1s"];
    let serve = Notify::new().start(secgroup.command(arguments));
    let signal = |signal| {
        kill(Pid::from_raw(i32::try_from(serve.id()).unwrap()), signal).unwrap();
    };
    signal(Signal::SIGSTOP);
    detach_link(&secgroup, "xdp");
    let foreign = ForeignXdp::attach(&net.server, "eth0", false);
    signal(Signal::SIGCONT);
    serve.wait_for_output("eth0 not repaired: ");
    // Checks follow each second, and none reports it again.
    let began = Instant::now();
    wait_until(MAX_WAIT, "later checks", || began.elapsed() > Duration::from_secs(4));
    let lines = serve.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("eth0")).count(), 2, "{lines:?}");
    assert_eq!(interface_state(&secgroup), "not-enforcing");
    drop(foreign);
    wait_until(MAX_WAIT, "the repair", || interface_state(&secgroup) == "enforcing");
}

/// A second BPF file system over the pins of an instance, until it is dropped.
struct Hidden<'a>(&'a Path);

impl<'a> Hidden<'a> {
    fn over(directory: &'a Path) -> Self {
        mount(Some("bpf"), directory, Some("bpf"), MsFlags::empty(), Some("mode=0700")).unwrap();
        Self(directory)
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn programs_whose_pins_are_hidden_are_named_and_not_doubled() {
    let net = Pair::new();
    let (secgroup, servers) = attached(&net, "");
    let hidden = Hidden::over(secgroup.pin_dir());
    let output = secgroup.run(["status"]);
    assert_eq!(output.code, Some(NOT_ENFORCED), "{output}");
    for text in ["sg_tcx_rx (id ", "sg_tcx_tx (id ", "tcx ingress", "unmount it"] {
        assert!(output.stdout.contains(text), "{text}: {output}");
    }
    for command in ["reconcile", "attach eth0 --group closed"] {
        let error = secgroup.refused(command, 1);
        assert!(error.contains("has programs of secgroup already: sg_tcx_rx"), "{error}");
        assert!(error.contains("hint: they enforce, but have no pins in"), "{error}");
    }
    assert_eq!(samples(&secgroup.ok("metrics")), (0, 1));
    // They go on.
    assert!(!tcp::reaches(&net.client, servers[0].address()));
    drop(hidden);
    secgroup.ok("status");
    secgroup.ok("reconcile");
}

#[test]
fn the_watched_status_is_printed_again_when_it_changes() {
    let net = Pair::new();
    let (secgroup, servers) = attached(&net, "--hook clsact");
    let arguments = ["status", "--watch", "--output", "json"];
    let mut watch = Process::capture(secgroup.command(arguments));
    let states = || -> Vec<String> {
        let lines = watch.lines();
        let documents = lines.iter().map(|line| {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        documents.map(|one| one["NetworkInterfaces"][0]["State"].to_string()).collect()
    };
    wait_until(MAX_WAIT, "the first status", || states().len() == 1);
    // Packets are no change.
    assert!(!tcp::reaches(&net.client, servers[0].address()));
    delete_qdisc(&net);
    wait_until(MAX_WAIT, "the loss", || states().len() == 2);
    secgroup.ok("reconcile");
    wait_until(MAX_WAIT, "the repair", || states().len() == 3);
    assert_eq!(states(), ["\"enforcing\"", "\"not-enforcing\"", "\"enforcing\""]);
    assert!(watch.interrupt().success());
    let mut stats = Process::capture(secgroup.command(["stats", "--watch"]));
    wait_until(MAX_WAIT, "the counters", || !stats.lines().is_empty());
    assert!(stats.interrupt().success());
}
