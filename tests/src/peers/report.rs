//! The page with the figures.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::firewall::Subject;
use super::metric::Metric;
use super::results::{Results, Spread};
use super::target::targets;
use crate::process::output;

/// What was compared where, in Markdown.
#[must_use]
pub fn page(results: &Results, rounds: usize) -> String {
    let mut page = format!(
        "# Comparison with nftables and iptables\n\n\
         Made by `cargo xtask bench --peers` on {}, {rounds} rounds, subjects in alternation, on\n{}.\n\n\
         ![the figures of the tables below as bars](peers.svg)\n\n\
         Bars are medians, lines the interquartile range; *2 × nftables* is twice as fast as \
         nftables\nwith the same rules.\n\n",
        first_line("date", &["-u", "+%Y-%m-%d"]),
        machine(),
    );
    page += &summary(results);
    page += METHOD;
    page
}

/// The targets, and a table for each metric.
#[must_use]
pub fn summary(results: &Results) -> String {
    let mut text = String::from(
        "## Targets\n\nSpeed as a multiple, for the number of rules with the lowest multiple.\n\n\
         | target | at least | median | quartiles | XDP, always pass | |\n\
         | --- | ---: | ---: | ---: | ---: | --- |\n",
    );
    for target in targets(results) {
        let Spread { low, median, high } = target.measured;
        let met = if target.is_met() { "met" } else { "**missed**" };
        let (what, required) = (&target.what, target.required);
        let bare = target.bare.map_or_else(String::new, |bare| format!("{bare:.2}"));
        let _ = writeln!(
            text,
            "| {what} | {required:.2} | {median:.2} | {low:.2} to {high:.2} | {bare} | {met} |"
        );
    }
    for metric in Metric::ALL {
        let _ = write!(
            text,
            "\n## {}\n\n{}; and the speed as a multiple of nftables with the same rules, and of no firewall.\n\n\
             | | median | quartiles | × nftables | × nothing |\n\
             | --- | ---: | ---: | ---: | ---: |\n",
            metric.title(),
            metric.unit(),
        );
        for subject in Subject::all() {
            row(&mut text, results, metric, subject);
        }
    }
    text
}

fn row(text: &mut String, results: &Results, metric: Metric, subject: Subject) {
    let Some(Spread { low, median, high }) = results.spread(metric, subject) else { return };
    let [peer, nothing] = [subject.peer(), subject.nothing()].map(|other| {
        let speed = results.speed(metric, subject, other).filter(|_| other != subject);
        speed.map_or_else(String::new, |speed| format!("{:.2}", speed.median))
    });
    let digits = metric.digits();
    let _ = writeln!(
        text,
        "| {subject} | {median:.digits$} | {low:.digits$} to {high:.digits$} | {peer} | {nothing} |"
    );
}

const METHOD: &str = "
## How it is measured

Each subject has a server and a client of its own, two network namespaces joined by veth. All exist from
the start; in each round they are measured one after the other, metric by metric. A flood and established
packets are also measured over IPv6, with one rule; everything else is IPv4.

- **Rules.** Each allows UDP to one port from one network, a /25 (nftables takes twice the time to
  compare a /24). The last network is the client's; one more rule allows it TCP. A set is one of
  nftables (`flags interval`), and for secgroup a prefix list. Everything else is dropped. With the peers,
  their first rule accepts established traffic. secgroup also filters what the server sends.
- **Packets** are UDP datagrams of 60 bytes, over IPv6 of 80, sent by an XDP program that the kernel
  runs with live frames. The figure is the CPU time of the server's side alone: the kernel thread that
  polls its device (threaded NAPI), from the device's ring to the end of the packet's processing, divided
  by the packets that the firewall, or the server, counted. It contains *XDP, always drop*: the ring, and
  a program that drops.
- **Flood dropped**: from 8,192 hosts in networks between those allowed, each packet from another
  port than the previous one of its host. Without a firewall (*nothing*) they are delivered.
- **Established accepted**: replies in 4,096 flows that the server opened and no rule allows; they are
  dropped at the full queue of a UDP socket.
- **New connections**: one thread connects, accepts and closes at both ends; time without the CPU is
  not counted.
- **TCP throughput**: iperf3, one connection for a second, each end on a CPU of its own.
- **Round trip**: the median of many; both ends in one thread, so that no wake-up is included.

Native XDP on veth switches its receive offload off and copies what a socket sends, whatever the
program does: *XDP, always pass*. The hook `auto` chooses TCX there.
";

fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key| cpuinfo.lines().filter_map(move |line| line.strip_prefix(key));
    let model = of("model name\t: ").next().unwrap_or("a processor without a name");
    let count = of("processor\t: ").count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let versions = [
        first_line("nft", &["--version"]),
        first_line("iptables-legacy", &["--version"]),
        first_line("iperf3", &["--version"]),
    ];
    let versions =
        versions.map(|version| version.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    format!("{count} CPUs {model}, Linux {}; {}", kernel.trim(), versions.join(", "))
}

/// The first line that a program prints.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let printed = output(Command::new(program).args(arguments));
    printed.lines().next().unwrap_or_default().to_owned()
}
