//! The EC2 API on a host with as many groups and rules as EC2 allows in an account by default: 2,500 groups of 60
//! rules. Every request is signed, and client and server share one CPU.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::ec2::{self, Call, Key, Reply};
use crate::network::{End, join};
use crate::udp::{self, UdpEcho};
use crate::wait::MAX_WAIT;
use crate::{Namespace, Secgroup, interrupt};

const GROUPS: usize = 2500;
/// Rules of a group, with that which allows everything out.
const RULES: usize = 60;
/// Attached interfaces, each with a group of its own and two others.
const INTERFACES: usize = 4;
/// How often each call is made.
const ALL: usize = 20;
const ONE: usize = 1000;
const CHANGES: usize = 300;
/// The port of the rule that is changed.
const PORT: u16 = 5100;
/// How long a datagram is waited for that is dropped.
const DROPPED: Duration = Duration::from_millis(50);

/// The times of a call.
#[derive(Clone, Debug)]
pub struct Times {
    what: &'static str,
    /// Sorted.
    times: Vec<Duration>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Figures {
    calls: Vec<Times>,
    /// Bytes of the answer with all groups.
    all: usize,
    /// Resident memory of `serve` in KiB: after its start, after all calls, and the most.
    memory: [u64; 3],
}

struct Client<'a> {
    key: &'a Key,
    stream: TcpStream,
}

impl Client<'_> {
    fn call(&mut self, form: &str) -> Result<Reply> {
        let form = format!("Version=2016-11-15&{form}");
        self.stream.write_all(&Call::post(&form).signed(self.key)).context("send a request")?;
        let reply = ec2::receive(&mut self.stream).context("receive an answer")?;
        ensure!(reply.status == 200, "{form}: {}", reply.body);
        Ok(reply)
    }

    /// The times of `count` calls; `form` is told the number of each.
    fn times(
        &mut self,
        what: &'static str,
        count: usize,
        form: impl Fn(usize) -> String,
    ) -> Result<Times> {
        let mut times = Vec::new();
        for number in 0..count {
            interrupt::check()?;
            let form = form(number);
            let begin = Instant::now();
            self.call(&form)?;
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        Ok(Times { what, times })
    }

    fn group(&mut self, name: &str) -> Result<String> {
        let filter = "Action=DescribeSecurityGroups&Filter.1.Name=group-name&Filter.1.Value.1";
        let body = self.call(&format!("{filter}={name}"))?.body;
        let id = body.split_once("<groupId>").and_then(|(_, rest)| rest.split_once('<'));
        Ok(id.context("no group")?.0.to_owned())
    }
}

/// Measures the calls. Packets verify that what they change is in force when they are answered.
///
/// # Errors
/// A call fails, a verdict is wrong, or a signal was received. Panics if a command fails.
pub fn measure() -> Result<Figures> {
    let host = Namespace::new();
    let mut guests = Vec::new();
    for number in 0..INTERFACES {
        let guest = Namespace::new();
        let [near, far] = [1, 2].map(|end| format!("{}/24", address(number, end)));
        join([
            End { namespace: &host, device: &format!("tap{number}"), addresses: &[&near] },
            End { namespace: &guest, device: "eth0", addresses: &[&far] },
        ]);
        guests.push(guest);
    }
    let secgroup = Secgroup::inside(&host);
    // The default configuration.
    secgroup.configure("");
    let file = tempfile::NamedTempFile::new().context("create a file for a document")?;
    fs::write(file.path(), document()).context("write the document")?;
    secgroup.ok(&format!("apply {}", file.path().display()));
    for number in 0..INTERFACES {
        let groups: String = [number, INTERFACES + number, 2 * INTERFACES]
            .map(|group| format!(" --group g{group}"))
            .concat();
        let address = address(number, 2);
        secgroup.ok(&format!("attach tap{number} --orientation guest --address {address}{groups}"));
    }
    let key = Key::create(&secgroup, "");
    let server = ec2::serve(&secgroup, "");
    let before = memory(server.id(), "VmRSS")?;
    let mut client = Client { key: &key, stream: ec2::connect(&host)? };
    let describe = "Action=DescribeSecurityGroups";
    let mut calls = vec![client.times("describe all, the first", 1, |_| describe.to_owned())?];
    let all = client.call(describe)?.body.len();
    calls.push(client.times("describe all", ALL, |_| describe.to_owned())?);
    let attached = client.group("g0")?;
    let one = format!("{describe}&GroupId.1={attached}");
    calls.push(client.times("describe one of them", ONE, |_| one.clone())?);
    verify(&mut client, &attached, [&host, &guests[0]])?;
    for (whats, id) in [
        (["authorize, attached group", "revoke, attached group"], attached),
        (["authorize, other group", "revoke, other group"], client.group("g2000")?),
    ] {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for number in 0..CHANGES {
            let rule = rule(&id, &format!("198.51.100.{}/32", number % 250));
            added.extend(client.times(whats[0], 1, |_| change("Authorize", &rule))?.times);
            removed.extend(client.times(whats[1], 1, |_| change("Revoke", &rule))?.times);
        }
        for (what, mut times) in whats.into_iter().zip([added, removed]) {
            times.sort_unstable();
            calls.push(Times { what, times });
        }
    }
    let memory = [before, memory(server.id(), "VmRSS")?, memory(server.id(), "VmHWM")?];
    Ok(Figures { calls, all, memory })
}

/// Fails unless packets follow each call at once.
fn verify(client: &mut Client<'_>, group: &str, [host, guest]: [&Namespace; 2]) -> Result<()> {
    let to = SocketAddr::new(address(0, 2), PORT);
    let _echo = UdpEcho::start(guest, to);
    // Each another one: the same signed request again would be refused.
    for length in 12..=16 {
        let rule = rule(group, &format!("10.80.0.0/{length}"));
        client.call(&change("Authorize", &rule))?;
        ensure!(udp::is_echoed(&udp::connect(host, to), MAX_WAIT), "what is allowed is dropped");
        client.call(&change("Revoke", &rule))?;
        ensure!(!udp::is_echoed(&udp::connect(host, to), DROPPED), "what is revoked passes");
    }
    Ok(())
}

fn rule(group: &str, network: &str) -> String {
    format!(
        "GroupId={group}&IpPermissions.1.IpProtocol=udp&IpPermissions.1.FromPort={PORT}\
         &IpPermissions.1.ToPort={PORT}&IpPermissions.1.IpRanges.1.CidrIp={network}"
    )
}

fn change(action: &str, rule: &str) -> String {
    format!("Action={action}SecurityGroupIngress&{rule}")
}

fn address(number: usize, end: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 80, u8::try_from(number).unwrap_or(u8::MAX), end))
}

/// A document with all groups but the default one.
fn document() -> String {
    let groups = (0..GROUPS - 1).map(|group| {
        let rule = |rule: usize| {
            let network = format!("172.{}.{}.{rule}/32", 16 + group / 250, group % 250);
            let port = 1000 + rule;
            json!({
                "IpProtocol": "tcp", "FromPort": port, "ToPort": port,
                "IpRanges": [{ "CidrIp": network }],
            })
        };
        json!({
            "GroupName": format!("g{group}"),
            "Description": "bench",
            "IpPermissions": (1..RULES).map(rule).collect::<Vec<Value>>(),
            "IpPermissionsEgress":
                [{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }],
        })
    });
    json!({ "SecurityGroups": groups.collect::<Vec<Value>>() }).to_string()
}

/// A figure of the memory of a process in KiB.
fn memory(process: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let word = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
    Ok(word.parse()?)
}

/// Prints the figures.
pub fn print(figures: &Figures) {
    let Figures { calls, all, memory: [before, after, most] } = figures;
    println!(
        "\nEC2 API with {GROUPS} groups of {RULES} rules and {INTERFACES} interfaces, milliseconds, client and \
         server on one CPU"
    );
    println!("{:32} {:>6} {:>8} {:>8} {:>8}", "CALL", "COUNT", "LEAST", "MEDIAN", "P99");
    for Times { what, times } in calls {
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
        let [least, median, p99] = [0, 50, 99].map(|share| at(share).as_secs_f64() * 1e3);
        println!("{what:32} {:>6} {least:>8.2} {median:>8.2} {p99:>8.2}", times.len());
        if *what == "describe one of them" {
            let total: Duration = times.iter().sum();
            let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
            println!("{:32} {:>6.0} a second", "", count / total.as_secs_f64());
        }
    }
    println!("the answer with all groups: {:.1} MiB", mebibytes(*all as u64 / 1024));
    println!(
        "memory of serve, MiB: {:.0} at its start, {:.0} after all calls, {:.0} at most",
        mebibytes(*before),
        mebibytes(*after),
        mebibytes(*most)
    );
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}
