//! The command line: one file per command, and here what they share.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Paths};
use crate::control::Control;

mod apply;
mod attach;
mod confirm;
mod detach;
mod export;
mod failure;
mod flows;
mod gc;
mod group;
mod interfaces;
mod management;
mod metrics;
mod mode;
mod output;
mod panic;
mod prefix_list;
mod reconcile;
mod rule;
mod safety;
mod serve;
mod stats;
mod status;

/// What a process says with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused, or something went wrong.
    Failed = 1,
    /// The command line means nothing; clap's own code.
    Usage = 2,
    /// What was named does not exist, nothing is attached, or no change waits.
    NotFound = 3,
    /// The answer is "differs".
    Differs = 4,
    /// The user ended it.
    Interrupted = 130,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed; nothing was changed
  2    the command line means nothing
  3    not found, nothing attached, or no change waiting
  4    the answer is \"differs\" (apply --dry-run)
  130  interrupted

Example:
  secgroup group create web --description \"web servers\"
  secgroup rule add web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8
  secgroup attach eth0 --group web
  secgroup stats eth0";

/// AWS-style stateful security groups for any Linux network interface.
#[derive(Debug, Parser)]
#[command(name = "secgroup", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Directory of the store
    #[arg(
        long,
        env = "SECGROUP_STATE_DIR",
        value_name = "DIR",
        default_value = "/var/lib/secgroup",
        global = true,
        hide_env_values = true
    )]
    state_dir: PathBuf,
    /// Directory on a bpffs for programs, maps and links
    #[arg(
        long,
        env = "SECGROUP_PIN_DIR",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/secgroup",
        global = true,
        hide_env_values = true
    )]
    pin_dir: PathBuf,
    /// Configuration file [default: /etc/secgroup/config.toml, if it exists]
    #[arg(
        long,
        env = "SECGROUP_CONFIG",
        value_name = "FILE",
        global = true,
        hide_env_values = true
    )]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, list, show and delete groups
    #[command(subcommand)]
    Group(group::Command),
    /// Add, remove and list the rules of groups
    #[command(subcommand)]
    Rule(rule::Command),
    /// Create, change, list, show and delete prefix lists
    #[command(subcommand)]
    PrefixList(prefix_list::Command),
    /// Make groups as a document says
    Apply(apply::Command),
    /// Print groups as a document
    Export(export::Command),
    /// Attach groups to an interface, or replace what is attached
    Attach(attach::Command),
    /// Take everything off an interface
    Detach(detach::Command),
    /// Drop what is to be dropped on an interface, or only count it
    Mode(mode::Command),
    /// Keep a change that was made with --confirm
    Confirm(confirm::Confirm),
    /// Take back a change that was made with --confirm
    Rollback(confirm::Rollback),
    /// Drop everything but the management networks, until it is over
    Panic(panic::Command),
    /// Say from where this host is managed, for a panic
    #[command(subcommand)]
    Management(management::Command),
    /// Show what is attached, and how full the flow tables are
    Status(status::Command),
    /// Show the counters by reason
    Stats(stats::Command),
    /// List, count and remove tracked flows
    #[command(subcommand)]
    Flows(flows::Command),
    /// Remove expired flows from the flow tables
    Gc(gc::Command),
    /// Make the kernel's state equal to the store
    Reconcile(reconcile::Command),
    /// Serve metrics over HTTP, and follow address changes of group members
    Serve(serve::Command),
    /// Print the metrics once, for a textfile collector
    Metrics(metrics::Command),
}

impl Command {
    fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Group(command) => command.run(context),
            Self::Rule(command) => command.run(context),
            Self::PrefixList(command) => command.run(context),
            Self::Apply(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Attach(command) => command.run(context),
            Self::Detach(command) => command.run(context),
            Self::Mode(command) => command.run(context),
            Self::Confirm(command) => command.run(context),
            Self::Rollback(command) => command.run(context),
            Self::Panic(command) => command.run(context),
            Self::Management(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Stats(command) => command.run(context),
            Self::Flows(command) => command.run(context),
            Self::Gc(command) => command.run(context),
            Self::Reconcile(command) => command.run(context),
            Self::Serve(command) => command.run(context),
            Self::Metrics(command) => command.run(context),
        }
    }
}

/// What every command may use.
#[derive(Debug)]
pub(crate) struct Context {
    paths: Paths,
    config: Config,
}

impl Context {
    /// The way to the store, which has in it nothing that should have been taken back by now.
    pub(crate) fn control(&self) -> Result<Control> {
        let mut control = self.unsettled()?;
        control.roll_back_overdue()?;
        Ok(control)
    }

    /// The way to the store as it is.
    pub(crate) fn unsettled(&self) -> Result<Control> {
        Control::open(&self.paths, self.config)
    }
}

/// Runs the command that the process was started for.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let Global { state_dir, pin_dir, config } = global;
    let run = || {
        let loaded = Config::load(config.as_deref())?;
        command.run(&Context { paths: Paths { state_dir, pin_dir, config }, config: loaded })
    };
    let exit = run().unwrap_or_else(|error| {
        if broken_pipe(&error) {
            // Whoever read the output has seen enough.
            return Exit::Done;
        }
        failure::tell(&error);
        failure::exit(&error)
    });
    ExitCode::from(exit as u8)
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_pipe))
}
