//! Changes that would lock the caller out are refused.

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

    /// The value of `SSH_CONNECTION` that sshd sets.
    fn ssh_connection(&self) -> String {
        let display = |end: SocketAddr| format!("{} {}", end.ip(), end.port());
        format!(
            "{} {}",
            display(self.client.local_addr().unwrap()),
            display(self.client.peer_addr().unwrap())
        )
    }

    /// The connection as error messages print it.
    fn displayed(&self) -> String {
        let client = self.client.local_addr().unwrap();
        format!("{client} -> {}", self.client.peer_addr().unwrap())
    }

    /// Runs a command as if from this login.
    fn run(&self, secgroup: &Secgroup<'_>, line: &str) -> CommandOutput {
        let mut command = secgroup.command(line.split_whitespace());
        CommandOutput::of(command.env("SSH_CONNECTION", self.ssh_connection()))
    }

    #[track_caller]
    fn assert_refused(&self, secgroup: &Secgroup<'_>, line: &str) {
        let state = || (secgroup.ok("rule list"), secgroup.ok("prefix-list list"));
        let before = state();
        let CommandOutput { code, stdout, stderr } = self.run(secgroup, line);
        let expected = format!(
            "this would lock you out: your SSH connection {} arrives on eth0, and no rule there \
             would allow a new one\n",
            self.displayed()
        );
        assert!(stderr.contains(&expected), "{line}: {stderr}");
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
fn a_change_that_cuts_the_callers_connection_is_refused() {
    let net = Pair::new();
    for family in [0, 1] {
        let login = Login::new(&net, family);
        let secgroup = Secgroup::inside(&net.server);
        let (wide, narrow) = (WIDE[family], NARROW[family]);
        let ssh = |cidr| format!("ssh ingress --protocol tcp --port 22 --cidr {cidr}");
        secgroup.ok("group create ssh --description x");
        secgroup.ok("group create other --description x");
        secgroup.ok("rule add ssh ingress --protocol tcp --port 23 --cidr 0.0.0.0/0 --cidr ::/0");
        login.assert_refused(&secgroup, "attach eth0 --group ssh");
        login.assert_refused(&secgroup, "attach eth0 --group ssh --confirm 1m");
        // The hint works.
        let CommandOutput { stderr, .. } = login.run(&secgroup, "attach eth0 --group ssh");
        let hint = stderr.lines().find_map(|line| line.strip_prefix("hint: `secgroup ")).unwrap();
        assert_eq!(hint.split_once('`').unwrap().0, format!("rule add {}", ssh(narrow)));
        login.ok(&secgroup, hint.split_once('`').unwrap().0);
        login.ok(&secgroup, "attach eth0 --group ssh");

        login.assert_refused(&secgroup, &format!("rule remove {}", ssh(narrow)));
        login.assert_refused(&secgroup, "attach eth0 --group other");
        login.ok(&secgroup, &format!("rule add {}", ssh(wide)));
        // One of two sufficient rules may be removed.
        login.ok(&secgroup, &format!("rule remove {}", ssh(narrow)));
        let preview = format!("rule remove {} --preview", ssh(wide));
        let CommandOutput { code, stderr, .. } = login.run(&secgroup, &preview);
        let refused = "warning: the removal would be refused: this would lock you out: ";
        assert!(code == Some(0) && stderr.contains(refused), "{stderr}");
        login.assert_refused(&secgroup, &format!("rule remove {}", ssh(wide)));
        let groups = r#"{"SecurityGroups": [{"GroupName": "ssh", "Description": "x", "IpPermissions": [], "IpPermissionsEgress": []}]}"#;
        let document = secgroup.state_dir().join("groups.json");
        fs::write(&document, groups).unwrap();
        login.assert_refused(&secgroup, &format!("apply {}", document.display()));

        let kind = ["ipv4", "ipv6"][family];
        login.ok(&secgroup, &format!("prefix-list create home --family {kind} --entry {narrow}"));
        login.ok(&secgroup, "rule add ssh ingress --protocol tcp --port 22 --prefix-list home");
        login.ok(&secgroup, &format!("rule remove {}", ssh(wide)));
        login.assert_refused(&secgroup, &format!("prefix-list remove home --entry {narrow}"));

        login.ok(&secgroup, &format!("prefix-list remove home --entry {narrow} --force"));
        assert!(!tcp::reaches(&net.client, at(Pair::SERVER, 22)[family]));
        // The caller is locked out already, so this change is allowed.
        login.ok(&secgroup, "attach eth0 --group other");
    }
}

/// The command of the hint.
fn hinted(answer: &CommandOutput) -> String {
    let hint = answer.stderr.lines().find_map(|line| line.strip_prefix("hint: `secgroup "));
    let hint = hint.unwrap_or_else(|| panic!("no command in the hint: {answer}"));
    hint.split_once('`').unwrap().0.to_owned()
}

#[test]
fn an_acl_that_cuts_the_callers_connection_is_refused() {
    let net = Pair::new();
    for family in [0, 1] {
        let login = Login::new(&net, family);
        let secgroup = Secgroup::inside(&net.server);
        secgroup.ok("group create open --description x");
        secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
        login.ok(&secgroup, "attach eth0 --group open");
        secgroup.ok("acl create web");
        let last = ["32767", "32768"][family];
        for (direction, what) in [("ingress", "its packets"), ("egress", "the replies")] {
            let answer = login.run(&secgroup, "acl associate web eth0");
            assert_eq!(answer.code, Some(1), "{direction}: {answer}");
            let expected = format!(
                "this would lock you out: your SSH connection {} arrives on eth0, and entry {last} of \
                 network ACL web would drop {what}\n",
                login.displayed()
            );
            assert!(answer.stderr.contains(&expected), "{direction}: {answer}");
            let hint = hinted(&answer);
            assert!(hint.starts_with(&format!("acl entry add web {direction} ")), "{hint}");
            login.ok(&secgroup, &hint);
        }
        login.ok(&secgroup, "acl associate web eth0");
        let deny = |direction: &str, number: u16| {
            let narrow = NARROW[family];
            format!("acl entry add web {direction} {number} deny --protocol all --cidr {narrow}")
        };
        for direction in ["ingress", "egress"] {
            let answer = login.run(&secgroup, &deny(direction, 50));
            assert_eq!(answer.code, Some(1), "{direction}: {answer}");
            assert!(answer.stderr.contains("and entry 50 of network ACL web"), "{answer}");
            login.ok(&secgroup, &hinted(&answer));
            login.ok(&secgroup, &deny(direction, 50));
        }
        // Nothing is before the first entry.
        let answer = login.run(&secgroup, &deny("ingress", 1));
        assert!(answer.stderr.contains("an ingress entry before entry 1 that allows"), "{answer}");
        let end = at(Pair::SERVER, 22)[family];
        login.ok(&secgroup, &format!("{} --force", deny("ingress", 1)));
        assert!(!tcp::reaches(&net.client, end));
        // The caller is cut off already.
        login.ok(&secgroup, &deny("egress", 1));
        // In audit mode nothing is dropped, so enforcing is refused.
        login.ok(&secgroup, "mode eth0 audit");
        let answer = login.run(&secgroup, "mode eth0 enforce");
        assert!(answer.stderr.contains("and entry 1 of network ACL web"), "{answer}");
    }
}

#[test]
fn changes_that_do_not_affect_the_callers_connection_are_allowed() {
    let net = Pair::new();
    net.server.ip("link add eth1 type veth peer name eth2");
    net.server.ip("link set eth1 up");
    net.server.ip("address add 10.99.0.1/24 dev eth1");
    let login = Login::new(&net, 0);
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create none --description x");
    login.ok(&secgroup, "attach eth1 --group none");
    // Packets to the host itself do not pass a guest's device.
    login.ok(&secgroup, "attach eth0 --group none --orientation guest");
    login.ok(&secgroup, "detach eth0");
    // The command runs in a namespace where the connection does not end.
    let outside_namespace = Secgroup::new();
    outside_namespace.ok("group create none --description x");
    let line = format!("attach eth0 --group none --netns {}", net.server.name());
    login.ok(&outside_namespace, &line);
}

#[test]
fn a_connection_without_a_flow_needs_mid_stream_pickup() {
    let net = Pair::new();
    let login = Login::new(&net, 0);
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create ssh --description x");
    secgroup.ok("rule add ssh ingress --protocol tcp --port 22 --cidr 0.0.0.0/0");
    secgroup.ok("attach eth0 --group ssh --tcp-loose off");
    let line = "rule remove ssh egress --protocol all --cidr 0.0.0.0/0";
    let answer = login.run(&secgroup, line);
    assert_eq!(answer.code, Some(1), "{answer}");
    let expected =
        "arrives on eth0, which has no flow, and with --tcp-loose off only a SYN opens one";
    assert!(answer.stderr.contains(expected), "{answer}");
    login.ok(&secgroup, "attach eth0 --group ssh --tcp-loose on");
    login.ok(&secgroup, line);
}

/// `sudo` removes the variable, but its parent shell still has it, and sshd has the socket.
#[test]
fn the_connection_is_found_without_the_environment_variable() {
    let net = Pair::new();
    let login = Login::new(&net, 0);
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create none --description x");
    // More than one command, so that the shell does not `exec` the last one.
    let line = "attach eth0 --group none";
    let shell = ["sh", "-c", "env -u SSH_CONNECTION \"$@\"; exit $?", "sh"];
    let mut from_shell = secgroup.command_under(&shell, line);
    from_shell.env("SSH_CONNECTION", login.ssh_connection());

    let directory = tempfile::tempdir().unwrap();
    let sshd = directory.path().join("sshd");
    fs::copy("/bin/sh", &sshd).unwrap();
    let sshd = [sshd.to_str().unwrap(), "-c", "\"$@\" < /dev/null; exit $?", "sh"];
    let mut from_sshd_socket = secgroup.command_under(&sshd, line);
    from_sshd_socket.env_remove("SSH_CONNECTION");
    from_sshd_socket.stdin(Stdio::from(OwnedFd::from(login.server.try_clone().unwrap())));

    let assert_refused = |mut command: Command| {
        let answer = CommandOutput::of(&mut command);
        assert_eq!(answer.code, Some(1), "{answer}");
        assert!(answer.stderr.contains(&login.displayed()), "{answer}");
    };
    assert_refused(from_shell);
    assert_refused(from_sshd_socket);
    let mut without_connection = secgroup.command(line.split(' '));
    let answer = CommandOutput::of(without_connection.env_remove("SSH_CONNECTION"));
    assert_eq!(answer.code, Some(0), "{answer}");
}
