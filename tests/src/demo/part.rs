//! The steps that each part runs with its protected interface.

use std::net::SocketAddr;

use anyhow::Result;

use super::attempt::{self, Attempt, Expected, Outcome, Service};
use super::evidence;
use super::lab::{Host, Lab, OFFICE};
use super::screen::Screen;
use super::services::{Services, WEB};
use super::shell::{self, Show};
use crate::http::Download;
use crate::{Secgroup, interrupt};

use Expected::{Dropped, Works};
use Service::{Echo, Page, Ping, Ssh};

/// A protected interface.
pub(super) struct Part<'a> {
    pub(super) lab: &'a Lab,
    pub(super) secgroup: &'a Secgroup<'a>,
    /// The host behind the interface.
    pub(super) inside: &'a Host,
    pub(super) services: &'a Services,
    pub(super) device: &'a str,
    /// Options of `attach`.
    pub(super) options: &'a [&'a str],
}

/// The minimal number of dropped packets by direction: a client may retransmit after a drop.
#[derive(Default)]
pub(super) struct Blocked {
    pub(super) ingress: u64,
    pub(super) egress: u64,
}

/// An attempt of a step: source, destination, service and expected result.
type Try<'a> = (&'a Host, &'a Host, Service, Expected);

/// The traffic of the rules, as arguments of `rule add` and `rule remove`.
const HTTP: [&str; 5] = ["ingress", "--protocol", "tcp", "--port", "80"];

impl Part<'_> {
    /// Runs all steps.
    pub(super) fn run_all(&self, screen: &mut Screen) -> Result<()> {
        let mut blocked = Blocked::default();
        self.new_group(screen, &mut blocked)?;
        let rules = self.one_rule(screen, &mut blocked)?;
        self.outside_client(screen, &mut blocked)?;
        self.rule_removed(screen, &mut blocked)?;
        self.second_group(screen, &mut blocked)?;
        evidence::show(self, screen, &blocked, &rules)
    }

    fn new_group(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, .. }, .. } = *self;
        screen.step(
            "A new group: all ingress is dropped; all egress passes, and so do its replies",
        )?;
        self.run(screen, &["group", "create", "web", "--description", "web servers"])?;
        self.attach(screen, &["web"])?;
        self.attempt(
            screen,
            blocked,
            &[
                (inside, office, Page, Works),
                (inside, office, Echo, Works),
                (inside, office, Ping, Works),
                (office, inside, Page, Dropped),
                (office, inside, Ssh, Dropped),
                (office, inside, Echo, Dropped),
                (office, inside, Ping, Dropped),
            ],
        )
    }

    /// Returns the ids of the rules that allow HTTP.
    fn one_rule(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<Vec<String>> {
        let Self { inside, lab: Lab { office, .. }, .. } = *self;
        screen.step(
            "A rule allows HTTP from the office; the egress rules are removed, as replies need none",
        )?;
        let added = self.rule(screen, "add", "web", &HTTP)?;
        let out = ["rule", "remove", "web", "egress", "--protocol", "all"];
        self.run(screen, &[&out[..], &["--cidr", "0.0.0.0/0", "--cidr", "::/0"]].concat())?;
        self.attempt(
            screen,
            blocked,
            &[
                (office, inside, Page, Works),
                (office, inside, Ping, Dropped),
                (inside, office, Page, Dropped),
                (inside, office, Echo, Dropped),
                (inside, office, Ping, Dropped),
            ],
        )?;
        Ok(added.split_whitespace().map(str::to_owned).collect())
    }

    fn outside_client(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, outside, .. }, .. } = *self;
        screen.step("A client outside of the rule's networks is dropped")?;
        self.attempt(
            screen,
            blocked,
            &[
                (office, inside, Page, Works),
                (outside, inside, Page, Dropped),
                (outside, inside, Ping, Dropped),
            ],
        )
    }

    fn rule_removed(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, .. }, services, .. } = *self;
        screen.step("The rule is removed during a download: the download continues")?;
        let address = |family: usize| SocketAddr::new(inside.addresses[family], WEB);
        let downloads = [0, 1].map(|family| Download::start(&office.namespace, address(family)));
        let halves = downloads.each_ref().map(|download| match download {
            Ok(_) => Outcome::Worked("8 of 16 MiB".to_owned()),
            Err(error) => Outcome::from(error),
        });
        let what = |what| format!("{:<23}{what}", format!("{} -> {}", office.name, inside.name));
        screen.check(&what("slow download"), Works, &halves)?;
        self.rule(screen, "remove", "web", &HTTP)?;
        self.attempt(screen, blocked, &[(office, inside, Page, Dropped)])?;
        services.finish_downloads();
        let finished = downloads.map(|download| match download.and_then(Download::finish) {
            Ok(()) => Outcome::Worked("16 of 16 MiB".to_owned()),
            Err(error) => Outcome::from(&error),
        });
        screen.check(&what("the same download"), Works, &finished)
    }

    fn second_group(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, outside, .. }, .. } = *self;
        screen.step("The rules of a second group are added to those of the first")?;
        self.rule(screen, "add", "web", &HTTP)?;
        self.run(screen, &["group", "create", "ops", "--description", "operators"])?;
        self.rule(screen, "add", "ops", &["ingress", "--protocol", "tcp", "--port", "22"])?;
        self.rule(screen, "add", "ops", &["ingress", "--protocol", "udp", "--port", "7"])?;
        for (protocol, request, network) in [("icmp", "8", OFFICE[0]), ("icmpv6", "128", OFFICE[1])]
        {
            let traffic = ["ingress", "--protocol", protocol, "--icmp", request, "--cidr", network];
            self.run(screen, &[&["rule", "add", "ops"], &traffic[..]].concat())?;
        }
        self.attach(screen, &["web", "ops"])?;
        self.attempt(
            screen,
            blocked,
            &[
                (office, inside, Page, Works),
                (office, inside, Ssh, Works),
                (office, inside, Echo, Works),
                (office, inside, Ping, Works),
                (outside, inside, Ssh, Dropped),
                (outside, inside, Ping, Dropped),
            ],
        )
    }

    /// Replaces the attached groups.
    fn attach(&self, screen: &mut Screen, groups: &[&str]) -> Result<()> {
        let mut arguments = vec!["attach", self.device];
        groups.iter().for_each(|group| arguments.extend(["--group", group]));
        arguments.extend(self.options);
        self.run(screen, &arguments).map(drop)
    }

    /// Adds or removes rules of a group for the networks of the office.
    fn rule(
        &self,
        screen: &mut Screen,
        verb: &str,
        group: &str,
        traffic: &[&str],
    ) -> Result<String> {
        let peers = ["--cidr", OFFICE[0], "--cidr", OFFICE[1]];
        self.run(screen, &[&["rule", verb, group], traffic, &peers].concat())
    }

    pub(super) fn run(&self, screen: &mut Screen, arguments: &[&str]) -> Result<String> {
        shell::run(screen, self.secgroup, arguments, Show::Dimmed)
    }

    /// Runs all attempts at the same time, and prints their results.
    pub(super) fn attempt(
        &self,
        screen: &mut Screen,
        blocked: &mut Blocked,
        tries: &[Try<'_>],
    ) -> Result<()> {
        interrupt::check()?;
        let attempts: Vec<_> = tries
            .iter()
            .map(|&(from, to, service, expected)| Attempt { from, to, service, expected })
            .collect();
        for attempt in attempts.iter().filter(|attempt| attempt.expected == Dropped) {
            let from_inside = attempt.from.name == self.inside.name;
            // One packet per family.
            *(if from_inside { &mut blocked.egress } else { &mut blocked.ingress }) += 2;
        }
        attempt::all(&attempts, |attempt, outcomes| {
            // After Ctrl-C the results are of killed programs.
            interrupt::check()?;
            screen.check(&attempt.to_string(), attempt.expected, outcomes)
        })
    }
}
