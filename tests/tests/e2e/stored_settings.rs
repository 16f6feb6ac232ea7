//! The settings that an interface's programs have are the stored ones: after a change that could not be stored, after
//! one whose process was killed, and while others change something.

use std::fs::{self, File};
use std::thread::sleep;
use std::time::Duration;

use firewall_user::config::{Config, Paths};
use firewall_user::control::Control;
use firewall_user::control::repair::{Depth, Repairs};
use firewall_user::dataplane::hooks::attach::is_current;
use firewall_user::dataplane::host::device;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::{Pair, Secgroup};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_answer");

fn attached(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    secgroup
}

fn paths(secgroup: &Secgroup<'_>) -> Paths {
    let pin_dir = secgroup.pin_dir().to_owned();
    Paths { state_dir: secgroup.state_dir(), pin_dir, config: None }
}

fn store(secgroup: &Secgroup<'_>) -> std::path::PathBuf {
    secgroup.state_dir().join("secgroup.db")
}

/// Whether the programs of eth0 are those of what is stored.
fn has_stored_settings(net: &Pair, secgroup: &Secgroup<'_>) -> bool {
    let paths = paths(secgroup);
    net.server.run(move || {
        let control = Control::open_read_only(&paths, Config::default()).unwrap();
        let model = control.model().unwrap();
        let device = device::find(None, "eth0").unwrap();
        let maps = control.maps().unwrap().expect("something is attached");
        is_current(&maps, model.interface("eth0", None).unwrap(), &device).unwrap()
    })
}

#[test]
fn a_change_of_settings_that_is_not_stored_is_not_in_force() {
    let net = Pair::new();
    let secgroup = attached(&net);
    assert!(has_stored_settings(&net, &secgroup));
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE OF generation ON state
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    rusqlite::Connection::open(store(&secgroup)).unwrap().execute_batch(refuse).unwrap();
    let output = secgroup.run("attach eth0 --group web --tcp-loose off".split(' '));
    assert!(output.stderr.contains("refused"), "{output}");
    assert_eq!(secgroup.status()["NetworkInterfaces"][0]["TcpLoose"], true);
    assert!(has_stored_settings(&net, &secgroup));
}

#[test]
fn the_first_check_of_serve_restores_the_stored_settings() {
    let net = Pair::new();
    let secgroup = attached(&net);
    let file = store(&secgroup);
    let earlier = fs::read(&file).unwrap();
    secgroup.ok("attach eth0 --group web --tcp-loose off");
    // As after a process that was killed before its commit.
    fs::write(&file, earlier).unwrap();
    assert!(!has_stored_settings(&net, &secgroup));
    let paths = paths(&secgroup);
    let check = || {
        let mut lines = Vec::new();
        let mut report = |line: &str| lines.push(line.to_owned());
        let mut repairs = Repairs::default();
        repairs.check(&paths, Config::default(), Depth::Everything, &mut report).unwrap();
        lines
    };
    let repaired = "eth0 repaired: its programs were not those of its settings";
    assert_eq!(net.server.run(check), [repaired]);
    assert!(has_stored_settings(&net, &secgroup));
    assert_eq!(net.server.run(check), [""; 0]);
}

/// Answers a call in a process of its own.
struct Answerer {
    directory: TempDir,
    command: std::process::Command,
}

impl Answerer {
    fn new(secgroup: &Secgroup<'_>, form: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("answer").display().to_string();
        Self { command: secgroup.command_under(&[PROGRAM, &file], form), directory }
    }

    fn answer(&self) -> String {
        fs::read_to_string(self.directory.path().join("answer")).unwrap_or_default()
    }

    fn run(mut self) -> String {
        let output = CommandOutput::of(&mut self.command);
        let answer = self.answer();
        assert!(!answer.is_empty(), "{output}");
        answer
    }
}

#[test]
fn a_call_changes_nothing_where_what_is_stored_is_not_enforced() {
    let net = Pair::new();
    let secgroup = attached(&net);
    let file = store(&secgroup);
    let earlier = fs::read(&file).unwrap();
    secgroup.ok("detach --all");
    // As after a reboot without `secgroup reconcile`.
    fs::write(&file, earlier).unwrap();
    let create = "Action=CreateSecurityGroup&GroupName=db&GroupDescription=d";
    let refused = Answerer::new(&secgroup, create).run();
    let message = "eth0 is stored, and not enforced; `secgroup reconcile` attaches what is stored; then retry";
    assert!(refused.contains("<Code>IncorrectState</Code>"), "{refused}");
    assert!(refused.contains(message), "{refused}");
    let dry_run = Answerer::new(&secgroup, &format!("{create}&DryRun=true")).run();
    assert!(dry_run.contains("IncorrectState"), "{dry_run}");
    // The command says that it is not in force.
    secgroup.ok_with("group create other --description x".split(' '));
    secgroup.ok("reconcile");
    let answer = Answerer::new(&secgroup, create).run();
    assert!(answer.starts_with("200 "), "{answer}");
    // Without its device there is nothing to enforce.
    secgroup.ok("detach --all");
    let answer = Answerer::new(&secgroup, &create.replace("db", "third")).run();
    assert!(answer.starts_with("200 "), "{answer}");
}

#[test]
fn a_device_that_goes_away_before_a_change_of_settings_keeps_nothing_from_being_stored() {
    let net = Pair::new();
    let secgroup = attached(&net);
    let id = secgroup.status()["NetworkInterfaces"][0]["NetworkInterfaceId"].clone();
    let lock = File::open(secgroup.state_dir().join("lock")).unwrap();
    lock.lock().unwrap();
    let form = format!(
        "Action=ModifyNetworkInterfaceAttribute&NetworkInterfaceId={}&\
         ConnectionTrackingSpecification.TcpEstablishedTimeout=350",
        id.as_str().unwrap()
    );
    let mut answerer = Answerer::new(&secgroup, &form);
    let mut process = answerer.command.spawn().unwrap();
    // It waits for the lock then.
    sleep(Duration::from_secs(1));
    assert!(process.try_wait().unwrap().is_none());
    net.server.ip("link del eth0");
    drop(lock);
    process.wait().unwrap();
    let answer = answerer.answer();
    assert!(answer.starts_with("200 "), "{answer}");
    let shown = &secgroup.status()["NetworkInterfaces"][0];
    assert_eq!(shown["ConnectionTrackingConfiguration"]["TcpEstablishedTimeout"], 350);
}
