//! `secgroup top` in a real terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use firewall_user::observe::journal::{self, DEFAULT_SIZE, Writer};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, ttyname};

use crate::drops::record;
use crate::host::{Done, Host};

const LIMIT: Duration = Duration::from_secs(20);

/// `secgroup top` in a pseudo-terminal.
struct Session {
    child: Child,
    keys: File,
    slave: OwnedFd,
    before: Termios,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Session {
    fn start(host: &Host, term: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let top = host.command(&["top", "--interval", "100ms"]);
        // A session of its own, whose terminal this is: so a change of size is told.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(top.get_program()).args(top.get_args());
        command.env_clear();
        command.envs(top.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.envs([("TERM", term), ("LANG", "C.UTF-8")]);
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut reader = File::from(pty.master.try_clone().unwrap());
        let seen = Arc::clone(&output);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                seen.lock().unwrap().extend(&bytes[..length]);
            }
        });
        Self { child, keys: File::from(pty.master), slave: pty.slave, before, output }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until so many occurrences of a text were written.
    #[track_caller]
    fn wait(&self, text: &str, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.text().matches(text).count() < count {
            assert!(Instant::now() < deadline, "{text:?} in {:?}", self.text());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        let name = ttyname(&self.slave).unwrap();
        let size = [rows.to_string(), columns.to_string()];
        let done = Command::new("stty")
            .arg("-F")
            .arg(name)
            .args(["rows", &size[0], "cols", &size[1]])
            .status();
        assert!(done.unwrap().success());
    }

    /// Waits for the end; the terminal must be as it was.
    #[track_caller]
    fn ended(&mut self) -> i32 {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{:?}", self.text());
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before);
        status.code().unwrap()
    }

    #[track_caller]
    fn is_restored(&self) {
        // The other screen is left, and the cursor is there.
        self.wait("\x1b[?1049l", 1);
        self.wait("\x1b[?25h", 1);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_ends_when_its_terminal_goes_away() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "web servers"]);
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    // Not of its session, so that no signal tells it.
    let mut top = host.command(&["top", "--interval", "100ms"]);
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child =
        top.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(top);
    drop(pty.slave);
    let mut master = File::from(pty.master);
    let (mut text, mut bytes) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&text).contains("overview]") {
        let length = master.read(&mut bytes).unwrap();
        text.extend(&bytes[..length]);
    }
    drop(master);
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it goes on without a terminal");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_shows_drops_follows_the_size_and_restores_the_terminal() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "web servers"]);
    let directory = journal::directory(&host.state_dir());
    let mut writer = Writer::open(&directory, DEFAULT_SIZE).unwrap();
    writer.append(record(443, 60)).unwrap();
    let mut session = Session::start(&host, "xterm-256color");
    session.wait("overview]", 1);
    session.wait("192.0.2.7:51234", 1);
    // Nothing is attached here, and that is told in place of an empty screen.
    session.wait("attached", 1);
    session.press("3");
    session.wait("drops]", 1);
    let mut other = record(22, 0);
    other.source_port = Some(60378);
    writer.append(other).unwrap();
    // All of its digits differ from those that were there, so it is written whole.
    session.wait("60378", 1);

    // Each change of size draws everything anew.
    let mut drawn = session.text().matches("secgroup").count();
    for (rows, columns) in [(10, 40), (1, 1), (60, 250), (2, 300), (24, 80)] {
        session.resize(rows, columns);
        if columns > 1 {
            session.wait("secgroup", drawn + 1);
        }
        drawn = session.text().matches("secgroup").count();
    }
    session.press("/--port 99999\r");
    session.wait("65535", 1);
    session.press("/--port https\r");
    session.wait("https", 2);
    session.press("q");
    assert_eq!(session.ended(), 0);
    session.is_restored();
}

#[test]
fn signals_restore_the_terminal() {
    let host = Host::new();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut session = Session::start(&host, "vt100");
        session.wait("overview]", 1);
        // `setsid` has one child.
        let children = format!("/proc/{0}/task/{0}/children", session.child.id());
        let child = std::fs::read_to_string(children).unwrap();
        let child = child
            .split_whitespace()
            .next()
            .map_or(session.child.id().cast_signed(), |child| child.parse().unwrap());
        kill(Pid::from_raw(child), signal).unwrap();
        assert_eq!(session.ended(), 0);
        session.is_restored();
    }
    // Ctrl-C is a key, as the terminal is raw.
    let mut session = Session::start(&host, "vt100");
    session.wait("overview]", 1);
    session.press("\x03");
    assert_eq!(session.ended(), 0);
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let hint = "hint: `secgroup stats --watch` and `secgroup drops --follow` print lines\n";
    let host = Host::new();
    let stderr = format!("error: top: standard input and output are not a terminal\n{hint}");
    assert_eq!(host.run(&["top"]), Done { code: 2, stdout: String::new(), stderr });
    let mut session = Session::start(&host, "dumb");
    session.wait("the terminal has no cursor (TERM)", 1);
    assert_eq!(session.ended(), 2);
}
