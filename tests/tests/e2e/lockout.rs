//! Changes that would lock their caller out.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::{Pair, Secgroup, tcp};

/// A login from the client: a connection to the server's port 22.
struct Login {
    client: TcpStream,
    server: TcpStream,
}

impl Login {
    fn new(net: &Pair, family: usize) -> Self {
        let listener = net.server.run(|| TcpListener::bind(at(Pair::SERVER, 22)[family])).unwrap();
        let client = tcp::connect(&net.client, listener.local_addr().unwrap()).unwrap();
        Self { client, server: listener.accept().unwrap().0 }
    }

    /// As sshd tells it.
    fn told(&self) -> String {
        let word = |end: SocketAddr| format!("{} {}", end.ip(), end.port());
        format!(
            "{} {}",
            word(self.client.local_addr().unwrap()),
            word(self.client.peer_addr().unwrap())
        )
    }

    /// As it is printed.
    fn shown(&self) -> String {
        let client = self.client.local_addr().unwrap();
        format!("{client} -> {}", self.client.peer_addr().unwrap())
    }

    /// Runs a command as if it were typed there.
    fn run(&self, secgroup: &Secgroup<'_>, line: &str) -> CommandOutput {
        let mut command = secgroup.command(line.split_whitespace());
        CommandOutput::of(command.env("SSH_CONNECTION", self.told()))
    }

    #[track_caller]
    fn refused(&self, secgroup: &Secgroup<'_>, line: &str) {
        let state = || (secgroup.ok("rule list"), secgroup.ok("prefix-list list"));
        let before = state();
        let CommandOutput { code, stdout, stderr } = self.run(secgroup, line);
        let said = format!(
            "this would lock you out: your SSH connection {} comes in by eth0, and no rule there \
             would admit the next one\n",
            self.shown()
        );
        assert!(stderr.contains(&said), "{line}: {stderr}");
        assert_eq!((code, stdout), (Some(1), String::new()), "{line}");
        assert_eq!(state(), before, "{line}");
    }

    #[track_caller]
    fn ok(&self, secgroup: &Secgroup<'_>, line: &str) {
        let answer = self.run(secgroup, line);
        assert_eq!(answer.code, Some(0), "{line}: {answer}");
    }
}

const WIDE: [&str; 2] = ["10.77.0.0/24", "fd77::/64"];
const NARROW: [&str; 2] = ["10.77.0.2/32", "fd77::2/128"];

#[test]
fn what_would_cut_the_callers_connection_is_refused() {
    let net = Pair::new();
    for family in [0, 1] {
        let login = Login::new(&net, family);
        let secgroup = Secgroup::inside(&net.server);
        let (wide, narrow) = (WIDE[family], NARROW[family]);
        let ssh = |cidr| format!("ssh ingress --protocol tcp --port 22 --cidr {cidr}");
        secgroup.ok("group create ssh --description x");
        secgroup.ok("group create other --description x");
        secgroup.ok("rule add ssh ingress --protocol tcp --port 23 --cidr 0.0.0.0/0 --cidr ::/0");
        login.refused(&secgroup, "attach eth0 --group ssh");
        login.refused(&secgroup, "attach eth0 --group ssh --confirm 1m");
        // What the hint says helps.
        let CommandOutput { stderr, .. } = login.run(&secgroup, "attach eth0 --group ssh");
        let hint = stderr.lines().find_map(|line| line.strip_prefix("hint: `secgroup ")).unwrap();
        assert_eq!(hint.split_once('`').unwrap().0, format!("rule add {}", ssh(narrow)));
        login.ok(&secgroup, hint.split_once('`').unwrap().0);
        login.ok(&secgroup, "attach eth0 --group ssh");

        login.refused(&secgroup, &format!("rule remove {}", ssh(narrow)));
        login.refused(&secgroup, "attach eth0 --group other");
        login.ok(&secgroup, &format!("rule add {}", ssh(wide)));
        // One of two may go.
        login.ok(&secgroup, &format!("rule remove {}", ssh(narrow)));
        login.refused(&secgroup, &format!("rule remove {}", ssh(wide)));
        let groups = r#"{"SecurityGroups": [{"GroupName": "ssh", "Description": "x", "IpPermissions": [], "IpPermissionsEgress": []}]}"#;
        let document = secgroup.state_dir().join("groups.json");
        fs::write(&document, groups).unwrap();
        login.refused(&secgroup, &format!("apply {}", document.display()));

        let kind = ["ipv4", "ipv6"][family];
        login.ok(&secgroup, &format!("prefix-list create home --family {kind} --entry {narrow}"));
        login.ok(&secgroup, "rule add ssh ingress --protocol tcp --port 22 --prefix-list home");
        login.ok(&secgroup, &format!("rule remove {}", ssh(wide)));
        login.refused(&secgroup, &format!("prefix-list remove home --entry {narrow}"));

        login.ok(&secgroup, &format!("prefix-list remove home --entry {narrow} --force"));
        assert!(!tcp::reaches(&net.client, at(Pair::SERVER, 22)[family]));
        // Shut out already: nothing is lost by this.
        login.ok(&secgroup, "attach eth0 --group other");
    }
}

#[test]
fn other_changes_and_other_connections_are_not_refused() {
    let net = Pair::new();
    net.server.ip("link add eth1 type veth peer name eth2");
    net.server.ip("link set eth1 up");
    net.server.ip("address add 10.99.0.1/24 dev eth1");
    let login = Login::new(&net, 0);
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create none --description x");
    login.ok(&secgroup, "attach eth1 --group none");
    // A guest's device is not the way to this host.
    login.ok(&secgroup, "attach eth0 --group none --orientation guest");
    login.ok(&secgroup, "detach eth0");
    // A namespace in which the connection does not end.
    let elsewhere = Secgroup::new();
    elsewhere.ok("group create none --description x");
    let line = format!("attach eth0 --group none --netns {}", net.server.name());
    login.ok(&elsewhere, &line);
}

#[test]
fn a_connection_without_a_flow_needs_pick_up() {
    let net = Pair::new();
    let login = Login::new(&net, 0);
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create ssh --description x");
    secgroup.ok("rule add ssh ingress --protocol tcp --port 22 --cidr 0.0.0.0/0");
    secgroup.ok("attach eth0 --group ssh --pick-up off");
    let line = "rule remove ssh egress --protocol all --cidr 0.0.0.0/0";
    let answer = login.run(&secgroup, line);
    assert_eq!(answer.code, Some(1), "{answer}");
    let said = "comes in by eth0, which has no flow, and with pick-up off only a SYN opens one";
    assert!(answer.stderr.contains(said), "{answer}");
    login.ok(&secgroup, "attach eth0 --group ssh --pick-up on");
    login.ok(&secgroup, line);
}

/// `sudo` drops the variable: the shell above it still has it, and sshd has the socket.
#[test]
fn the_connection_is_found_where_nobody_tells_it() {
    let net = Pair::new();
    let login = Login::new(&net, 0);
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create none --description x");
    // More than one command, so that the shell stays.
    let line = "attach eth0 --group none";
    let shell = ["sh", "-c", "env -u SSH_CONNECTION \"$@\"; exit $?", "sh"];
    let mut told = secgroup.command_under(&shell, line);
    told.env("SSH_CONNECTION", login.told());

    let directory = tempfile::tempdir().unwrap();
    let sshd = directory.path().join("sshd");
    fs::copy("/bin/sh", &sshd).unwrap();
    let sshd = [sshd.to_str().unwrap(), "-c", "\"$@\" < /dev/null; exit $?", "sh"];
    let mut held = secgroup.command_under(&sshd, line);
    held.env_remove("SSH_CONNECTION");
    held.stdin(Stdio::from(OwnedFd::from(login.server.try_clone().unwrap())));

    let refused = |mut command: Command| {
        let answer = CommandOutput::of(&mut command);
        assert_eq!(answer.code, Some(1), "{answer}");
        assert!(answer.stderr.contains(&login.shown()), "{answer}");
    };
    refused(told);
    refused(held);
    let mut nobody = secgroup.command(line.split(' '));
    let answer = CommandOutput::of(nobody.env_remove("SSH_CONNECTION"));
    assert_eq!(answer.code, Some(0), "{answer}");
}
