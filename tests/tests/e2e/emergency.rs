//! The worst day: the disk is full or read-only, the configuration is broken, somebody holds the lock, or owns
//! what secgroup relies on. Packets stay as they were, and emergency commands work.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use firewall_user::model::Limits;
use firewall_user::store::Store;
use rusqlite::Connection;
use secgroup_tests::network::{End, at, join};
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, Process, Secgroup};

use crate::support::Mounted;

const RULE: &str = "web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64";

/// The commands that only read.
const READING: [&str; 9] = [
    "status",
    "stats",
    "metrics",
    "flows list",
    "flows count",
    "rule list",
    "group list",
    "management list",
    "export",
];

/// Runs a program as a user who is not root.
const NOBODY: [&str; 6] =
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"];

/// A server that a rule allows the client to reach.
fn serve_http(net: &Pair, secgroup: &Secgroup<'_>) -> [TcpServer; 2] {
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    secgroup.ok("attach eth0 --group web");
    at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end))
}

fn is_reachable(net: &Pair) -> bool {
    at(Pair::SERVER, 80).into_iter().all(|end| tcp::connect(&net.client, end).is_ok())
}

fn is_unreachable(net: &Pair) -> bool {
    tcp::none_reaches(&net.client, &at(Pair::SERVER, 80))
}

/// Runs a command that is done in the kernel and cannot be stored; returns its standard error.
fn not_stored(secgroup: &Secgroup<'_>, line: &str, done: &str, why: &str) -> String {
    let error = secgroup.refused(line, 6);
    let path = secgroup.state_dir().join("secgroup.db");
    let expected = format!("{done}, but this is not stored: store {} ", path.display());
    assert!(error.contains(&expected) && error.contains(why), "{line}: {error}");
    assert!(error.contains("\nhint: "), "{line}: {error}");
    error
}

/// Whether a change waits to be rolled back in the store; no command of ours does it.
fn has_overdue_change(secgroup: &Secgroup<'_>) -> bool {
    Store::open_read_only(&secgroup.state_dir(), Limits::default())
        .unwrap()
        .pending()
        .unwrap()
        .is_some()
}

fn rules(secgroup: &Secgroup<'_>) -> String {
    secgroup.ok("rule list")
}

#[test]
fn on_a_full_disk_reading_panic_and_detach_work() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let disk = Mounted::for_store(&secgroup);
    let _servers = serve_http(&net, &secgroup);
    secgroup.ok("management set 192.0.2.0/24");
    disk.fill_but(0);
    for line in READING {
        let output = secgroup.run(line.split(' '));
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{line}: {output}");
    }
    // A change that needs space names the cause, and changes nothing.
    let before = rules(&secgroup);
    let many = (0..150).map(|number| format!(" --cidr 198.51.{number}.0/24")).collect::<String>();
    secgroup.configure("[limits]\nrules_per_group = 200\n[maps]\ninterfaces = 8\n");
    let error = secgroup.refused(&format!("rule add web ingress --protocol tcp --port 1{many}"), 1);
    assert!(error.contains("secgroup.db cannot be written: No space left on device"), "{error}");
    assert!(error.contains("hint: free space on that file system"), "{error}");
    assert_eq!(rules(&secgroup), before);
    assert!(is_reachable(&net));
    // These need no space: what they change is stored, too.
    secgroup.ok("panic");
    assert!(is_unreachable(&net));
    secgroup.ok("panic --off");
    assert!(is_reachable(&net));
    for (end, port) in [("confirm", 81), ("rollback", 82)] {
        disk.free();
        let rule = format!("web ingress --protocol tcp --port {port} --cidr 10.0.0.0/8");
        secgroup.ok(&format!("rule add {rule} --confirm 1h"));
        disk.fill_but(0);
        secgroup.ok(end);
        // With spaces: an id may contain the digits.
        assert_eq!(rules(&secgroup).contains(&format!(" {port} ")), end == "confirm", "{end}");
    }
    secgroup.ok("detach --all");
    assert!(!secgroup.pin_dir().exists());
    secgroup.refused("status", 3);
}

/// What could not be stored is undone by no process of secgroup, also where nothing is attached any more.
#[test]
fn the_last_detach_and_the_rollback_of_the_first_attach_hold_without_a_writable_store() {
    let why = "cannot be written: Read-only file system";
    for command in ["detach eth0", "detach --all", "rollback"] {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        let disk = Mounted::for_store(&secgroup);
        let servers = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
        secgroup.ok("group create none --description x");
        let terms = if command == "rollback" { " --confirm 1h" } else { "" };
        secgroup.ok(&format!("attach eth0 --group none --force{terms}"));
        assert!(!tcp::reaches(&net.client, servers[0].address()));
        let serve = Process::capture(secgroup.command(["serve", "--check-interval", "1s"]));
        serve.wait_for_output("metrics at");
        disk.set_read_only(true);
        secgroup.refused(command, 6);
        assert!(is_reachable(&net), "{command}");
        // Events at which `serve` looks at the devices, and a check.
        net.server.ip("link set eth0 mtu 1400");
        net.server.ip("link set eth0 mtu 1500");
        let checked = Instant::now();
        while checked.elapsed() < Duration::from_secs(3) {
            assert!(is_reachable(&net), "{command}: {:#?}", serve.lines());
            thread::sleep(Duration::from_millis(100));
        }
        let refused = secgroup.run(["reconcile"]);
        assert!(refused.stderr.contains(why), "{command}: {refused}");
        assert!(is_reachable(&net), "{command}");
        disk.set_read_only(false);
        secgroup.ok("reconcile");
        assert!(is_reachable(&net), "{command}");
        secgroup.refused("status", 3);
        assert!(!secgroup.pin_dir().exists(), "{command}: nothing is left");
    }
}

#[test]
fn with_a_read_only_store_what_is_done_in_the_kernel_stays_and_is_stored_later() {
    let net = Pair::new();
    let other = Namespace::new();
    join([
        End { namespace: &net.server, device: "eth1", addresses: &["10.66.0.1/24"] },
        End { namespace: &other, device: "eth0", addresses: &["10.66.0.2/24"] },
    ]);
    let secgroup = Secgroup::inside(&net.server);
    let disk = Mounted::for_store(&secgroup);
    let _servers = serve_http(&net, &secgroup);
    secgroup.ok("attach eth1 --group web");
    secgroup.ok("management set 192.0.2.0/24");
    let why = "cannot be written: Read-only file system";

    disk.set_read_only(true);
    for line in READING {
        let output = secgroup.run(line.split(' '));
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{line}: {output}");
    }
    for line in
        ["rule add web egress --protocol 47 --cidr ::/0", "attach eth0 --group web --tcp strict"]
    {
        let error = secgroup.refused(line, 1);
        assert!(error.contains(why) && error.contains("is mounted read-only"), "{line}: {error}");
    }
    secgroup.ok("flows flush");
    secgroup.ok("reconcile");
    assert!(is_reachable(&net));

    let done = "panic: in the kernel emergency mode is on: only traffic of 192.0.2.0/24 passes (eth0, eth1)";
    not_stored(&secgroup, "panic", done, why);
    assert!(is_unreachable(&net));
    // No later command undoes it, with the store or without.
    secgroup.refused("reconcile", 6);
    assert!(is_unreachable(&net));
    let status = secgroup.run(["status"]);
    assert!(status.stdout.starts_with("PANIC: only traffic of 192.0.2.0/24 passes"), "{status}");
    assert!(status.stderr.contains("the kernel has what could not be stored yet"), "{status}");
    disk.set_read_only(false);
    let reconciled = secgroup.run(["reconcile"]);
    assert!(
        reconciled.stderr.contains("`panic`, which could not be stored before"),
        "{reconciled}"
    );
    assert!(is_unreachable(&net));
    assert_eq!(secgroup.run(["status"]).stderr, "");
    fs::remove_dir_all(secgroup.pin_dir()).unwrap();
    secgroup.ok("reconcile");
    assert!(is_unreachable(&net), "it is stored");

    disk.set_read_only(true);
    not_stored(&secgroup, "panic --off", "in the kernel emergency mode is off (eth0, eth1)", why);
    assert!(is_reachable(&net));
    not_stored(&secgroup, "detach eth1", "detach eth1: in the kernel eth1 is detached", why);
    secgroup.refused("reconcile", 6);
    assert_eq!(secgroup.json("status")["NetworkInterfaces"].as_array().unwrap().len(), 1);
    assert!(is_reachable(&net));
    disk.set_read_only(false);
    secgroup.ok("rule add web egress --protocol 47 --cidr ::/0");
    fs::remove_dir_all(secgroup.pin_dir()).unwrap();
    let reconciled = secgroup.ok("reconcile");
    assert_eq!(reconciled.lines().count(), 1, "eth0 alone: {reconciled}");

    disk.set_read_only(true);
    let error = not_stored(&secgroup, "detach --all", "in the kernel eth0 is detached", why);
    assert!(error.contains("it stays so until a reboot"), "{error}");
    disk.set_read_only(false);
    assert_eq!(secgroup.ok("reconcile"), "");
    assert!(!secgroup.pin_dir().exists());
}

/// Emergency mode begins where the programs are missing, too, or the command says where it does not hold.
#[test]
fn a_panic_attaches_what_is_lost_and_names_what_is_open() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let _servers = serve_http(&net, &secgroup);
    secgroup.ok("management set 192.0.2.0/24");
    for hook in ["clsact", "tcx"] {
        secgroup.ok(&format!("attach eth0 --hook {hook}"));
        if hook == "clsact" {
            let mut command = net.server.command("tc");
            command.args(["qdisc", "del", "dev", "eth0", "clsact"]);
            assert!(command.status().unwrap().success());
        } else {
            fs::remove_dir_all(secgroup.pin_dir()).unwrap();
        }
        assert!(is_reachable(&net), "{hook}");
        secgroup.ok("panic");
        assert!(is_unreachable(&net), "{hook}");
        secgroup.ok("panic --off");
        assert!(is_reachable(&net), "{hook}");
    }
    // Programs whose pins are out of sight go on as before, and no command says that it has changed them.
    let hidden = Mounted::new("bpf", secgroup.pin_dir(), "mode=0700");
    for line in ["panic", "mode eth0 audit", "detach eth0", "detach --all"] {
        let error = secgroup.refused(line, 1);
        assert!(error.contains("has programs of secgroup already: sg_tcx_rx"), "{line}: {error}");
        assert!(is_reachable(&net), "{line}");
    }
    drop(hidden);
    assert!(is_reachable(&net));
    secgroup.ok("status");
}

/// Who holds the lock, but is no secgroup command, keeps no rollback from its time.
#[test]
fn a_deadline_is_kept_while_somebody_else_holds_the_lock() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let _servers = serve_http(&net, &secgroup);
    secgroup.ok(&format!("rule remove {RULE} --confirm 2s"));
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(secgroup.state_dir().join("lock")).args(["sleep", "1000"]);
    let _holder = Process::start(command);
    assert!(is_unreachable(&net));
    wait_until(MAX_WAIT, "the rollback", || is_reachable(&net));
}

#[test]
fn a_deadline_that_meets_a_read_only_store_rolls_the_kernel_back_and_the_store_follows() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let disk = Mounted::for_store(&secgroup);
    let _servers = serve_http(&net, &secgroup);
    let before = rules(&secgroup);
    secgroup.ok(&format!("rule remove {RULE} --confirm 2s"));
    disk.set_read_only(true);
    assert!(is_unreachable(&net));
    // By the watcher alone.
    wait_until(MAX_WAIT, "the rollback", || is_reachable(&net));
    assert_eq!(secgroup.run(["rule", "list"]).stdout, before);
    let error = secgroup.refused("confirm", 1);
    let start = "error: confirm: nothing was changed: `rule remove web` is rolled back in the kernel, but this is \
                 not stored: ";
    assert!(error.starts_with(start), "{error}");
    assert!(error.contains("cannot be written: Read-only file system"), "{error}");
    let status = secgroup.run(["status"]);
    assert!(!status.stdout.contains("unconfirmed"), "{status}");
    assert!(
        status.stderr.contains("rolled back in the kernel, but this is not stored"),
        "{status}"
    );
    disk.set_read_only(false);
    wait_until(MAX_WAIT, "the store to follow", || !has_overdue_change(&secgroup));
    assert_eq!(rules(&secgroup), before);
    assert!(is_reachable(&net));

    // The same before the deadline, by the command.
    secgroup.ok(&format!("rule remove {RULE} --confirm 1h"));
    disk.set_read_only(true);
    assert!(secgroup.refused("confirm", 1).contains("Read-only file system"));
    let done = "rollback: `rule remove web` is rolled back in the kernel";
    not_stored(&secgroup, "rollback", done, "cannot be written: Read-only file system");
    assert!(is_reachable(&net));
    secgroup.refused("reconcile", 6);
    assert!(is_reachable(&net), "a reconciliation does not make the change again");
    disk.set_read_only(false);
    secgroup.ok("reconcile");
    assert_eq!(rules(&secgroup), before);
    secgroup.refused("rollback", 3);
    assert_eq!(secgroup.run(["status"]).stderr, "");
}

/// As after a disk error, which makes the kernel mount a file system read-only.
#[test]
fn a_store_that_became_read_only_in_the_middle_of_a_commit_is_read() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let disk = Mounted::for_store(&secgroup);
    let _servers = serve_http(&net, &secgroup);
    let before = rules(&secgroup);
    let (path, journal) =
        ["secgroup.db", "secgroup.db-journal"].map(|it| disk.path().join(it)).into();
    // A change of which some pages are written; its journal has them as they were.
    let sql = Connection::open(&path).unwrap();
    sql.pragma_update(None, "journal_mode", "PERSIST").unwrap();
    sql.pragma_update(None, "cache_size", 1).unwrap();
    sql.execute_batch("BEGIN IMMEDIATE; DELETE FROM rules").unwrap();
    for number in 0..200 {
        let (id, text) = (format!("sg-{number:017x}"), "x".repeat(200));
        sql.execute("INSERT INTO groups SELECT ?1, id, ?1, ?2 FROM vpcs", [&id, &text]).unwrap();
    }
    let left = [&path, &journal].map(|file| fs::read(file).unwrap());
    drop(sql);
    for (file, content) in [&path, &journal].into_iter().zip(left) {
        fs::write(file, content).unwrap();
    }
    disk.set_read_only(true);
    for line in READING {
        let output = secgroup.run(line.split(' '));
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{line}: {output}");
    }
    assert_eq!(rules(&secgroup), before);
    let done = "panic: in the kernel emergency mode is on: nothing passes (eth0)";
    not_stored(&secgroup, "panic --force", done, "cannot be written: Read-only file system");
    assert!(is_unreachable(&net));
    secgroup.refused("reconcile", 6);
    disk.set_read_only(false);
    secgroup.ok("panic --off");
    assert_eq!(rules(&secgroup), before);
    assert!(is_reachable(&net));
}

#[test]
fn a_disk_that_fills_at_any_write_of_a_change_leaves_it_made_or_not_made() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let disk = Mounted::for_store(&secgroup);
    let _servers = serve_http(&net, &secgroup);
    let before = rules(&secgroup);
    let (mut refused, mut made) = (0, 0);
    // Each page more lets the change come further.
    for pages in 0..64 {
        disk.fill_but(pages);
        let output = secgroup.run(format!("rule remove {RULE} --confirm 1s").split(' '));
        match output.code {
            Some(0) => {
                made += 1;
                assert!(is_unreachable(&net) || is_reachable(&net), "never between");
                disk.free();
                disk.fill_but(0);
                // At the deadline, with the disk full.
                wait_until(MAX_WAIT, "the rollback", || is_reachable(&net));
            }
            Some(1) => {
                refused += 1;
                let why = "cannot be written: No space left on device";
                assert!(output.stderr.contains(why), "{pages} pages: {output}");
                assert!(is_reachable(&net), "{pages} pages");
            }
            _ => panic!("{pages} pages: {output}"),
        }
        assert_eq!(secgroup.run(["rule", "list"]).stdout, before, "{pages} pages");
        disk.free();
        wait_until(MAX_WAIT, "the store to follow", || !has_overdue_change(&secgroup));
        assert!(is_reachable(&net), "{pages} pages");
        assert_eq!(rules(&secgroup), before, "{pages} pages");
        if made == 2 {
            break;
        }
    }
    assert!(refused > 3 && made == 2, "{refused} refused, {made} made");
}

#[test]
fn a_broken_configuration_stops_only_what_needs_it() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let _servers = serve_http(&net, &secgroup);
    secgroup.ok("management set 192.0.2.0/24");
    let capacities = || -> Vec<u64> {
        let status = secgroup.json("status");
        let tables = status["FlowTables"].as_array().unwrap().iter();
        tables.map(|table| table["Capacity"].as_u64().unwrap()).collect()
    };
    let tables = capacities();
    assert!(!tables.is_empty());
    secgroup.ok(&format!("rule remove {RULE} --confirm 1h"));
    secgroup.configure("[maps]\nrules = \"many\"\n");
    let file = secgroup.state_dir().with_file_name("config.toml");
    let warning = format!(
        "warning: configuration {}: line 2, column 9: invalid type: string \"many\"",
        file.display()
    );
    for line in
        ["attach eth0 --group web", "reconcile", "apply -", "group create x --description x"]
    {
        let error = secgroup.refused(line, 1);
        assert!(error.starts_with(&warning.replace("warning", "error")), "{line}: {error}");
    }
    for line in READING.into_iter().chain([
        "confirm --show",
        "rollback",
        "panic",
        "panic --off",
        "mode eth0 audit",
        "flows flush",
        "gc",
    ]) {
        let output = secgroup.run(line.split(' '));
        assert_eq!(output.code, Some(0), "{line}: {output}");
        assert!(output.stderr.starts_with(&warning), "{line}: {output}");
    }
    assert!(is_reachable(&net));
    assert_eq!(capacities(), tables, "the tables keep their sizes");
    assert_eq!(secgroup.run(["detach", "eth0"]).code, Some(0));
}

/// Runs a program that must succeed as another user; returns whether it does.
fn nobody(arguments: &[&str]) -> bool {
    let output = Command::new(NOBODY[0]).args(&NOBODY[1..]).args(arguments).output().unwrap();
    output.status.success()
}

#[test]
fn a_pin_directory_that_another_user_made_is_refused() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    // As the kernel mounts it by default: everybody may create directories.
    let _bpffs = Mounted::new("bpf", directory.path(), "mode=1777");
    let pins = directory.path().join("secgroup");
    let pins_text = pins.to_str().unwrap();
    let run = |line: &str| {
        let mut command = secgroup.command(["--pin-dir", pins_text]);
        CommandOutput::of(command.args(line.split(' ')))
    };
    assert!(nobody(&["mkdir", pins_text]));
    for line in ["attach eth0 --group web", "reconcile", "detach --all"] {
        let output = run(line);
        let error =
            format!("pin directory: {pins_text} belongs to user 65534\nhint: its owner could ");
        assert_eq!(output.code, Some(1), "{line}: {output}");
        assert!(output.stderr.contains(&error), "{line}: {output}");
    }
    assert_eq!(fs::read_dir(&pins).unwrap().count(), 0);
    // The same for one that others may write.
    fs::remove_dir(&pins).unwrap();
    fs::create_dir(&pins).unwrap();
    fs::set_permissions(&pins, Permissions::from_mode(0o777)).unwrap();
    let output = run("attach eth0 --group web");
    assert!(output.stderr.contains("may be written by others (mode 0777)"), "{output}");
    fs::remove_dir(&pins).unwrap();

    assert_eq!(run("attach eth0 --group web").code, Some(0));
    assert_eq!(fs::metadata(&pins).unwrap().mode() & 0o7777, 0o700);
    for arguments in [
        &["mv", pins_text, &format!("{pins_text}-mine")][..],
        &["mkdir", &format!("{pins_text}/abi999")],
        &["ls", pins_text],
    ] {
        assert!(!nobody(arguments), "{arguments:?}");
    }
    // Another user learns what is missing, and nothing that harms.
    let wrapper: Vec<_> = NOBODY.into_iter().collect();
    let mut command = secgroup.command_under(&wrapper, "status");
    let output = CommandOutput::of(
        command.env("SECGROUP_STATE_DIR", "/nowhere").env("SECGROUP_PIN_DIR", &pins),
    );
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.contains("Permission denied"), "{output}");
    assert!(output.stderr.contains("hint: run as root\n"), "{output}");
    assert!(!output.stderr.contains("rm -r"), "{output}");
    assert_eq!(run("detach --all").code, Some(0));
}

#[test]
fn a_state_directory_of_another_user_is_refused_and_its_lock_is_private() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let state = secgroup.state_dir();
    // An earlier mode, by which everybody could hold the lock.
    let (lock, store) = (state.join("lock"), state.join("secgroup.db"));
    fs::set_permissions(state.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
    for file in [&lock, &store] {
        fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
    }
    secgroup.ok("rule add web egress --protocol 47 --cidr ::/0");
    for file in [&lock, &store] {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o7777, 0o600, "{}", file.display());
    }
    assert!(!nobody(&["flock", "--nonblock", lock.to_str().unwrap(), "true"]));
    for (owner, mode, error) in [
        (Some(65534), 0o755, "belongs to user 65534"),
        (Some(0), 0o1777, "may be written by others"),
    ] {
        std::os::unix::fs::chown(&state, owner, None).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
        for line in
            ["status", "panic", "reconcile", "rule add web egress --protocol 48 --cidr ::/0"]
        {
            let output = secgroup.run(line.split(' '));
            let expected = format!("state directory: {} {error}", state.display());
            assert_eq!(output.code, Some(1), "{line}: {output}");
            assert!(output.stderr.contains(&expected), "{line}: {output}");
        }
    }
    fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_emergency_command_does_not_wait_for_the_lock_for_ever() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let _servers = serve_http(&net, &secgroup);
    secgroup.ok("management set 192.0.2.0/24");
    let lock = secgroup.state_dir().join("lock");
    let held = || Command::new("flock").arg("--nonblock").arg(&lock).arg("true").status().unwrap();
    let hold = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("--no-fork").arg(&lock).args(["sleep", "1000"]);
        let process = Process::start(command);
        wait_until(MAX_WAIT, "the lock to be held", || !held().success());
        process
    };
    // By a program that is no secgroup command: the emergency comes first.
    let mut holder = hold(Path::new("flock"));
    let began = Instant::now();
    for line in ["panic", "panic --off", "mode eth0 audit"] {
        let output = secgroup.run(line.split(' '));
        assert_eq!(output.code, Some(0), "{line}: {output}");
        let notice =
            format!("secgroup: process {} of user 0 (`sleep 1000`) holds the lock", holder.id());
        assert!(output.stderr.contains(&notice), "{line}: {output}");
        assert!(output.stderr.contains("going on without it"), "{line}: {output}");
    }
    assert!(began.elapsed() < MAX_WAIT);
    secgroup.ok("status");
    holder.kill();
    secgroup.ok("mode eth0 enforce");

    // By a secgroup command, which may be in the middle of a change.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("secgroup");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(&lock).arg(&program).arg("1000");
    let mut holder = Process::start(command);
    wait_until(MAX_WAIT, "the lock to be held", || !held().success());
    secgroup.ok("status");
    for line in ["panic", "detach --all", "mode eth0 audit"] {
        let error = secgroup.refused(line, 1);
        let who = format!(
            "process {} of user 0 (`{} 1000`) has held the lock",
            holder.id(),
            program.display()
        );
        assert!(error.contains(&who), "{line}: {error}");
        assert!(error.contains(&format!("`kill -9 {}` ends it", holder.id())), "{line}: {error}");
    }
    assert!(is_reachable(&net), "nothing was changed");
    holder.kill();
    secgroup.ok("detach --all");
}
