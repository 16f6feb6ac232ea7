//! The story that each part tells of its guarded interface.

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

/// A guarded interface.
pub(super) struct Part<'a> {
    pub(super) lab: &'a Lab,
    pub(super) secgroup: &'a Secgroup<'a>,
    /// Who is behind the interface.
    pub(super) inside: &'a Host,
    pub(super) services: &'a Services,
    pub(super) device: &'a str,
    /// Options of `attach`.
    pub(super) options: &'a [&'a str],
}

/// Blocked packets of each direction, at the least: an answer to a drop may be another try.
#[derive(Default)]
pub(super) struct Blocked {
    pub(super) ingress: u64,
    pub(super) egress: u64,
}

/// What a step tries: who, whom, what, with what success.
type Try<'a> = (&'a Host, &'a Host, Service, Expected);

/// The traffic of the rules, as `rule add` and `rule remove` take it.
const PAGES: [&str; 5] = ["ingress", "--protocol", "tcp", "--port", "80"];

impl Part<'_> {
    /// Tells the whole story.
    pub(super) fn show(&self, screen: &mut Screen) -> Result<()> {
        let mut blocked = Blocked::default();
        self.fresh_group(screen, &mut blocked)?;
        let rules = self.one_rule(screen, &mut blocked)?;
        self.stranger(screen, &mut blocked)?;
        self.rule_revoked(screen, &mut blocked)?;
        self.second_group(screen, &mut blocked)?;
        evidence::show(self, screen, &blocked, &rules)
    }

    fn fresh_group(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, .. }, .. } = *self;
        screen.step("A fresh group: nothing comes in; everything goes out, and is answered")?;
        self.run(screen, &["group", "create", "web", "--description", "web servers"])?;
        self.attach(screen, &["web"])?;
        self.tries(
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

    /// Returns the ids of the rules that let the pages through.
    fn one_rule(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<Vec<String>> {
        let Self { inside, lab: Lab { office, .. }, .. } = *self;
        screen.step("Pages for the office; replies need no egress rule, so that goes")?;
        let added = self.rule(screen, "add", "web", &PAGES)?;
        let out = ["rule", "remove", "web", "egress", "--protocol", "all"];
        self.run(screen, &[&out[..], &["--cidr", "0.0.0.0/0", "--cidr", "::/0"]].concat())?;
        self.tries(
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

    fn stranger(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, stranger, .. }, .. } = *self;
        screen.step("Somebody outside of the rule's networks")?;
        self.tries(
            screen,
            blocked,
            &[
                (office, inside, Page, Works),
                (stranger, inside, Page, Dropped),
                (stranger, inside, Ping, Dropped),
            ],
        )
    }

    fn rule_revoked(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, .. }, services, .. } = *self;
        screen.step("The rule is revoked during a download")?;
        let address = |family: usize| SocketAddr::new(inside.addresses[family], WEB);
        let downloads = [0, 1].map(|family| Download::start(&office.namespace, address(family)));
        let halves = downloads.each_ref().map(|download| match download {
            Ok(_) => Outcome::Worked("8 of 16 MiB".to_owned()),
            Err(error) => Outcome::from(error),
        });
        let what = |what| format!("{:<23}{what}", format!("{} -> {}", office.name, inside.name));
        screen.check(&what("slow download"), Works, &halves)?;
        self.rule(screen, "remove", "web", &PAGES)?;
        self.tries(screen, blocked, &[(office, inside, Page, Dropped)])?;
        services.finish_downloads();
        let finished = downloads.map(|download| match download.and_then(Download::finish) {
            Ok(()) => Outcome::Worked("16 of 16 MiB".to_owned()),
            Err(error) => Outcome::from(&error),
        });
        screen.check(&what("the same download"), Works, &finished)
    }

    fn second_group(&self, screen: &mut Screen, blocked: &mut Blocked) -> Result<()> {
        let Self { inside, lab: Lab { office, stranger, .. }, .. } = *self;
        screen.step("A second group adds to the first")?;
        self.rule(screen, "add", "web", &PAGES)?;
        self.run(screen, &["group", "create", "ops", "--description", "who looks after servers"])?;
        self.rule(screen, "add", "ops", &["ingress", "--protocol", "tcp", "--port", "22"])?;
        self.rule(screen, "add", "ops", &["ingress", "--protocol", "udp", "--port", "7"])?;
        for (protocol, request, network) in [("icmp", "8", OFFICE[0]), ("icmpv6", "128", OFFICE[1])]
        {
            let traffic = ["ingress", "--protocol", protocol, "--icmp", request, "--cidr", network];
            self.run(screen, &[&["rule", "add", "ops"], &traffic[..]].concat())?;
        }
        self.attach(screen, &["web", "ops"])?;
        self.tries(
            screen,
            blocked,
            &[
                (office, inside, Page, Works),
                (office, inside, Ssh, Works),
                (office, inside, Echo, Works),
                (office, inside, Ping, Works),
                (stranger, inside, Ssh, Dropped),
                (stranger, inside, Ping, Dropped),
            ],
        )
    }

    /// Attaches groups in place of those that were.
    fn attach(&self, screen: &mut Screen, groups: &[&str]) -> Result<()> {
        let mut arguments = vec!["attach", self.device];
        groups.iter().for_each(|group| arguments.extend(["--group", group]));
        arguments.extend(self.options);
        self.run(screen, &arguments).map(drop)
    }

    /// Adds or removes what a group allows the office.
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
        shell::run(screen, self.secgroup, arguments, Show::Aside)
    }

    /// Tries all at once, and shows how each went.
    pub(super) fn tries(
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
            // Over two families.
            *(if from_inside { &mut blocked.egress } else { &mut blocked.ingress }) += 2;
        }
        attempt::all(&attempts, |attempt, outcomes| {
            // Programs that Ctrl-C ended have nothing to tell.
            interrupt::check()?;
            screen.check(&attempt.to_string(), attempt.expected, outcomes)
        })
    }
}
