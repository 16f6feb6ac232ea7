//! `secgroup serve`: clients that are slow, silent or many, its signals, its socket, and its service manager.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secgroup_tests::http::get_any_status;
use secgroup_tests::network::{End, join};
use secgroup_tests::notify::Notify;
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, Process, Secgroup};

use crate::support::{interface_state, metric};

const SERVED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9911);

/// The connections that it serves at the same time, and the time for a request.
const MAX_CONNECTIONS: usize = 32;
const REQUEST_TIME: Duration = Duration::from_secs(5);

fn open_files(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", process.id())).expect("list its files").count()
}

/// Its resident memory in KiB.
fn memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn send(process: &Process, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
}

fn recreate(net: &Pair) {
    net.server.ip("link delete eth0");
    join([
        End { namespace: &net.server, device: "eth0", addresses: &["10.77.0.1/24"] },
        End { namespace: &net.client, device: "eth0", addresses: &["10.77.0.2/24"] },
    ]);
}

fn closed(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create closed --description x");
    secgroup.ok("attach eth0 --group closed");
    secgroup
}

#[test]
fn silent_clients_take_few_files_and_delay_nothing() {
    let net = Pair::new();
    let secgroup = closed(&net);
    let notify = Notify::new();
    // As few files as a service has by default.
    let command =
        secgroup.command_under(&["prlimit", "--nofile=256"], "serve --metrics 127.0.0.1:9911");
    let serve = notify.start(command);
    let before = open_files(&serve);

    let silent: Vec<TcpStream> =
        net.server.run(|| (0..400).filter_map(|_| TcpStream::connect(SERVED).ok()).collect());
    assert!(silent.len() >= 300, "{} connections", silent.len());
    recreate(&net);
    serve.wait_for_output("eth0 appeared: attached");
    assert_eq!(interface_state(&secgroup), "enforcing");
    assert!(open_files(&serve) <= before + MAX_CONNECTIONS + 16, "{} files", open_files(&serve));
    // One that says something is served.
    let (status, text) = get_any_status(&net.server, SERVED, "/metrics").unwrap();
    assert_eq!((status, metric(&text, "secgroup_enforcing{interface=\"eth0\"}")), (200, 1));
    // Without new ones, those that are left end.
    wait_until(MAX_WAIT, "silent connections to end", || open_files(&serve) <= before + 1);
    drop(silent);
}

#[test]
fn slow_and_large_requests_are_cut_off() {
    let net = Pair::new();
    let secgroup = closed(&net);
    let _serve = Notify::new().start(secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]));
    let connect = || net.server.run(|| TcpStream::connect(SERVED)).unwrap();

    let mut slow = connect();
    slow.set_read_timeout(Some(MAX_WAIT)).unwrap();
    let began = Instant::now();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(began.elapsed() < REQUEST_TIME * 4, "{:?}", began.elapsed());
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));

    let mut large = connect();
    let _ = large.write_all(b"GET /metrics HTTP/1.1\r\n");
    let _ = large.write_all(format!("X: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
    let mut rest = Vec::new();
    let _ = large.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));

    let mut posted = connect();
    posted.write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut rest = String::new();
    posted.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 405"), "{rest}");
}

#[test]
fn many_scrapes_at_once_share_a_reading() {
    let net = Pair::new();
    let secgroup = closed(&net);
    let serve = Notify::new().start(secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]));
    get_any_status(&net.server, SERVED, "/metrics").unwrap();
    let before = memory(&serve);
    let served = std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..200)
            .map(|_| scope.spawn(|| get_any_status(&net.server, SERVED, "/metrics").is_ok()))
            .collect();
        scrapes.into_iter().filter_map(|one| one.join().ok()).filter(|is_served| *is_served).count()
    });
    // More than fit at once may be cut off.
    assert!(served >= MAX_CONNECTIONS, "{served} of 200");
    let after = memory(&serve);
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    wait_until(MAX_WAIT, "another reading", || {
        get_any_status(&net.server, SERVED, "/metrics").is_ok_and(|(status, _)| status == 200)
    });
}

/// A request over a Unix socket.
fn get_unix(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_unix_socket_serves_owner_and_group_only() {
    let net = Pair::new();
    let secgroup = closed(&net);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("metrics.sock");
    let address = format!("unix:{}", socket.display());
    let mut serve = Notify::new().start(secgroup.command(["serve", "--metrics", &address]));
    serve.wait_for_output(&format!("metrics at {address}"));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(get_unix(&socket).unwrap().contains("secgroup_enforcing{interface=\"eth0\"} 1"));

    // A second one does not take it over.
    let error = secgroup.refused(&format!("serve --metrics {address}"), 1);
    assert!(
        error.starts_with(&format!("error: serve: listen on {address}: Address already in use"))
    );
    assert!(get_unix(&socket).is_ok());
    // What a killed one left is replaced.
    let left = fs::metadata(&socket).unwrap().ino();
    serve.kill();
    assert!(socket.exists());
    let mut serve = Notify::new().start(secgroup.command(["serve", "--metrics", &address]));
    assert!(get_unix(&socket).is_ok());
    assert_eq!(serve.terminate().code(), Some(0));
    assert!(!socket.exists(), "removed at the end; the earlier one was {left}");

    // Nothing else is replaced.
    fs::write(&socket, "a file").unwrap();
    let error = secgroup.refused(&format!("serve --metrics {address}"), 1);
    assert!(error.contains("the file is not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a file");
    fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    secgroup.refused(&format!("serve --metrics {address}"), 1);
    drop(other);
    secgroup.refused("serve --metrics unix:metrics.sock", 2);
    let missing = directory.path().join("none/metrics.sock");
    let error = secgroup.refused(&format!("serve --metrics unix:{}", missing.display()), 1);
    assert!(error.contains("hint: make the directory first: `mkdir"), "{error}");
}

#[test]
fn a_hangup_reloads_and_a_bad_configuration_changes_nothing() {
    let net = Pair::new();
    let secgroup = closed(&net);
    let notify = Notify::new();
    let mut command = secgroup.command(["serve", "--metrics", "127.0.0.1:0"]);
    command.env("WATCHDOG_USEC", "2000000");
    let mut serve = notify.start(command);
    notify.wait_for("WATCHDOG=1");

    send(&serve, Signal::SIGHUP);
    wait_until(MAX_WAIT, "the message of a reload", || {
        let message = notify.receive().unwrap_or_default();
        message.starts_with("RELOADING=1\nMONOTONIC_USEC=")
    });
    notify.wait_for("READY=1");
    serve.wait_for_output("configuration reloaded");
    secgroup.configure("[limits]\nno_such_limit = 1\n");
    send(&serve, Signal::SIGHUP);
    notify.wait_for("READY=1");
    serve.wait_for_output("configuration not reloaded, the earlier one stays: ");
    // It goes on.
    recreate(&net);
    serve.wait_for_output("eth0 appeared: attached");
    notify.wait_for("WATCHDOG=1");
    assert_eq!(serve.terminate().code(), Some(0));
    notify.wait_for("STOPPING=1");
    secgroup.configure("");
}

/// A stopped process sends nothing, and neither does one whose loop is stuck behind the lock.
#[test]
fn the_watchdog_is_fed_only_while_the_loop_works() {
    let net = Pair::new();
    let secgroup = closed(&net);
    let notify = Notify::new();
    let mut command =
        secgroup.command(["serve", "--metrics", "127.0.0.1:0", "--check-interval", "1s"]);
    // Half of it has to be longer than the pause between two checks.
    command.env("WATCHDOG_USEC", "12000000");
    let _serve = notify.start(command);
    notify.wait_for("WATCHDOG=1");
    let lock = fs::File::open(secgroup.state_dir().join("lock")).unwrap();
    lock.lock().unwrap();
    // It has to take the lock.
    net.server.ip("link delete eth0");
    join([
        End { namespace: &net.server, device: "eth0", addresses: &[] },
        End { namespace: &net.client, device: "eth0", addresses: &[] },
    ]);
    let mut last = Instant::now();
    wait_until(MAX_WAIT, "silence", || {
        if notify.receive().is_some() {
            last = Instant::now();
        }
        last.elapsed() > Duration::from_secs(7)
    });
    drop(lock);
    notify.wait_for("WATCHDOG=1");
}

/// The file that a process without changes would read or write all the time.
#[test]
fn without_changes_it_takes_no_lock_and_little_time() {
    let net = Pair::new();
    let secgroup = closed(&net);
    let serve = Notify::new().start(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    let time = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", serve.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // utime and stime, in hundredths of a second.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let lock = fs::File::open(secgroup.state_dir().join("lock")).unwrap();
    let (began, before) = (Instant::now(), time());
    wait_until(MAX_WAIT, "some checks", || {
        // Whoever holds it, even for a moment, is an error.
        assert!(lock.try_lock().is_ok(), "the lock is taken");
        lock.unlock().unwrap();
        began.elapsed() > Duration::from_secs(12)
    });
    let used = time() - before;
    assert!(used <= 12, "{used} hundredths of a second of a CPU in 12 s");
}

/// Devices that come, go, flap and are renamed, here and in another namespace, while packets pass.
/// `SECGROUP_SERVE_SECONDS` makes it longer.
#[test]
fn devices_that_come_and_go_are_guarded_and_take_nothing() {
    /// Rounds after which everything that is kept exists.
    const WARM: u64 = 4;
    /// KiB that loading the programs of an interface takes.
    const LOAD: u64 = 24 << 10;
    let seconds = std::env::var("SECGROUP_SERVE_SECONDS");
    let length = seconds.map_or(15, |seconds| seconds.parse().expect("a number of seconds"));
    let length = Duration::from_secs(length);
    let net = Pair::new();
    let boxed = Namespace::new();
    let secgroup = closed(&net);
    net.server.ip("link add stay0 type veth peer name stay1");
    net.server.ip("link set stay0 up");
    secgroup.ok("attach stay0 --group closed");
    join([
        End { namespace: &boxed, device: "box0", addresses: &["10.78.0.1/24"] },
        End { namespace: &net.client, device: "far0", addresses: &["10.78.0.2/24"] },
    ]);
    secgroup.ok(&format!("attach box0 --netns {} --group closed", boxed.name()));
    let mut command = secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]);
    // As in the unit file: with several arenas, memory grows by steps until each has had a large load.
    command.env("MALLOC_ARENA_MAX", "1");
    let serve = Notify::new().start(command);

    let began = Instant::now();
    let (mut rounds, mut base, mut longest) = (0_u64, None::<(usize, u64)>, Duration::ZERO);
    let states = || -> Vec<String> {
        let status = secgroup.status();
        let interfaces = status["NetworkInterfaces"].as_array().unwrap().clone();
        interfaces.iter().map(|one| one["State"].as_str().unwrap().to_owned()).collect()
    };
    while began.elapsed() < length || rounds <= WARM {
        rounds += 1;
        recreate(&net);
        boxed.ip("link delete box0");
        join([
            End { namespace: &boxed, device: "box0", addresses: &["10.78.0.1/24"] },
            End { namespace: &net.client, device: "far0", addresses: &["10.78.0.2/24"] },
        ]);
        let appeared = Instant::now();
        for _ in 0..3 {
            net.server.ip("link set stay0 down");
            net.server.ip("link set stay0 up");
            net.server.ip("address add 10.79.0.1/24 dev stay0");
            net.server.ip("address del 10.79.0.1/24 dev stay0");
        }
        net.server.ip("link set stay1 name other1");
        net.server.ip("link set other1 name stay1");
        wait_until(MAX_WAIT, "every device to be guarded", || {
            states().iter().all(|state| state == "enforcing")
        });
        longest = longest.max(appeared.elapsed());
        // Nothing is open: no packet that no rule allows gets in.
        for (from, to) in [("10.77.0.2", "10.77.0.1"), ("10.78.0.2", "10.78.0.1")] {
            let to: std::net::IpAddr = to.parse().unwrap();
            assert!(
                !secgroup_tests::ping::ping(&net.client, to),
                "round {rounds}: {from} reached {to}"
            );
        }
        assert_eq!(get_any_status(&net.server, SERVED, "/metrics").unwrap().0, 200);
        // A check or a reading in between has some open.
        wait_until(MAX_WAIT, "files to be closed", || {
            base.is_none_or(|(files, _)| open_files(&serve) <= files + 2)
        });
        let now = (open_files(&serve), memory(&serve));
        // The heap keeps or returns what loading the programs takes: the most of the first rounds counts.
        let before = base.unwrap_or(now);
        let most = if rounds <= WARM { (before.0.max(now.0), before.1.max(now.1)) } else { before };
        base = Some(most);
        assert!(now.1 <= most.1 + LOAD, "round {rounds}: {most:?} and now {now:?} files and KiB");
    }
    let (files, memory) = (open_files(&serve), memory(&serve));
    eprintln!(
        "{rounds} rounds in {:?}: {base:?} files and KiB at first, {files} and {memory} now; guarded after at \
         most {longest:?}",
        began.elapsed()
    );
    let lines = serve.lines();
    // A new device can have the index of the one before: then its programs are lost and attached again.
    let expected =
        [" appeared: attached, ", " repaired: attached, ", ": not enforced: the program for "];
    let unexpected = lines.iter().filter(|line| !expected.iter().any(|text| line.contains(text)));
    assert!(unexpected.count() <= 1, "{lines:#?}");
}
