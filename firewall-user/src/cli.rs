//! The command line: one file per command, and here what they share.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, Paths};
use crate::control::Control;

mod acl;
mod apply;
mod attach;
mod block;
mod collecting;
mod confirm;
mod detach;
mod diff;
mod documents;
mod drops;
mod ends;
mod explain;
mod export;
mod failure;
mod flow_log;
mod flows;
mod gc;
mod group;
mod import;
mod input;
mod interfaces;
mod interrupt;
mod json;
mod key;
mod management;
mod members;
mod metrics;
mod mode;
mod output;
mod panic;
mod prefix_list;
mod proposal;
mod reconcile;
mod rule;
mod safety;
mod serve;
mod simulate;
mod since;
mod stats;
mod status;
mod table;
mod top;
mod traffic;
mod unblock;
mod vpc;

pub use json::{JsonDocument, documents};

pub use crate::explain::Exit;

/// Characters in a line of help, at most.
const WIDTH: usize = 100;

/// Every exit code with its meaning, and how to begin.
fn after_help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let mut line = format!("  {:<3} ", *exit as u8);
        for word in exit.help().trim_end_matches('.').split(' ') {
            if line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(text, "{line}");
                line = " ".repeat(6);
            }
            let _ = write!(line, " {word}");
        }
        let _ = writeln!(text, "{line}");
    }
    text + "\n\
Example:
  secgroup group create web --description \"web servers\"
  secgroup rule add web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8
  secgroup attach eth0 --group web
  secgroup stats eth0"
}

/// AWS-style stateful security groups for any Linux network interface.
#[derive(Debug, Parser)]
#[command(name = "secgroup", version, after_help = after_help(), max_term_width = WIDTH)]
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
    /// Directory in a BPF file system for the pinned programs, maps and links
    #[arg(
        long,
        env = "SECGROUP_PIN_DIR",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/secgroup",
        global = true,
        hide_env_values = true
    )]
    pin_dir: PathBuf,
    /// Configuration file [default: /etc/secgroup/config.toml if it exists]
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
    /// Create, change, list, show and delete network ACLs, and associate them with interfaces
    #[command(subcommand)]
    Acl(acl::Command),
    /// List VPCs and subnets
    #[command(subcommand)]
    Vpc(vpc::Command),
    Apply(apply::Command),
    Import(import::Command),
    Export(export::Command),
    Diff(diff::Command),
    Simulate(simulate::Command),
    /// Attach groups to an interface, or change the groups and options of one that is attached
    Attach(attach::Command),
    /// Detach all groups from an interface
    Detach(detach::Command),
    /// Enforce drops on an interface, or only count them (audit)
    Mode(mode::Command),
    Block(block::Command),
    Unblock(unblock::Command),
    Confirm(confirm::Confirm),
    Rollback(confirm::Rollback),
    Panic(panic::Command),
    /// Set the networks that stay reachable in a panic
    #[command(subcommand)]
    Management(management::Command),
    /// Show the attached interfaces and the use of the flow tables
    Status(status::Command),
    /// Show packet and byte counters by interface, direction and reason
    Stats(stats::Command),
    Explain(explain::Command),
    Drops(drops::Command),
    Top(top::Command),
    /// List, count and remove tracked flows
    #[command(subcommand)]
    Flows(flows::Command),
    /// Create, list, delete and read flow logs
    #[command(subcommand)]
    FlowLog(flow_log::Command),
    /// Remove expired flows from the flow tables
    Gc(gc::Command),
    /// Make the kernel's state equal to the store: at boot, and after an upgrade
    Reconcile(reconcile::Command),
    /// Serve metrics over HTTP, attach interfaces that appear, follow address changes
    Serve(serve::Command),
    /// Create, list and delete the access keys of the EC2 API
    #[command(subcommand)]
    Key(key::Command),
    /// Print the metrics once, for node_exporter's textfile collector
    Metrics(metrics::Command),
}

impl Command {
    /// Whether the command uses a limit or a size of the configuration. What only reads, and what an
    /// emergency needs, works without it.
    const fn needs_configuration(&self) -> bool {
        match self {
            Self::Group(command) => command.needs_configuration(),
            Self::Rule(command) => command.needs_configuration(),
            Self::PrefixList(command) => command.needs_configuration(),
            Self::Acl(command) => command.needs_configuration(),
            Self::Apply(_)
            | Self::Diff(_)
            | Self::Simulate(_)
            | Self::Import(_)
            | Self::Attach(_)
            | Self::Reconcile(_)
            | Self::Serve(_) => true,
            Self::Mode(command) => !command.is_for_emergency(),
            Self::Block(command) => command.needs_configuration(),
            Self::FlowLog(command) => command.needs_configuration(),
            Self::Export(_)
            | Self::Vpc(_)
            | Self::Detach(_)
            | Self::Unblock(_)
            | Self::Confirm(_)
            | Self::Rollback(_)
            | Self::Panic(_)
            | Self::Management(_)
            | Self::Status(_)
            | Self::Stats(_)
            | Self::Explain(_)
            | Self::Drops(_)
            | Self::Top(_)
            | Self::Flows(_)
            | Self::Gc(_)
            | Self::Key(_)
            | Self::Metrics(_) => false,
        }
    }

    fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Group(command) => command.run(context),
            Self::Rule(command) => command.run(context),
            Self::PrefixList(command) => command.run(context),
            Self::Acl(command) => command.run(context),
            Self::Vpc(command) => command.run(context),
            Self::Apply(command) => command.run(context),
            Self::Import(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Diff(command) => command.run(context),
            Self::Simulate(command) => command.run(context),
            Self::Attach(command) => command.run(context),
            Self::Detach(command) => command.run(context),
            Self::Mode(command) => command.run(context),
            Self::Block(command) => command.run(context),
            Self::Unblock(command) => command.run(context),
            Self::Confirm(command) => command.run(context),
            Self::Rollback(command) => command.run(context),
            Self::Panic(command) => command.run(context),
            Self::Management(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Stats(command) => command.run(context),
            Self::Explain(command) => command.run(context),
            Self::Drops(command) => command.run(context),
            Self::Top(command) => command.run(context),
            Self::Flows(command) => command.run(context),
            Self::FlowLog(command) => command.run(context),
            Self::Gc(command) => command.run(context),
            Self::Reconcile(command) => command.run(context),
            Self::Serve(command) => command.run(context),
            Self::Key(command) => command.run(context),
            Self::Metrics(command) => command.run(context),
        }
    }
}

/// What every command uses.
#[derive(Debug)]
pub(crate) struct Context {
    paths: Paths,
    config: Config,
}

impl Context {
    /// Opens the store, and rolls back a change whose deadline for confirmation is over.
    pub(crate) fn control(&self) -> Result<Control> {
        let existing = self.control_unsettled()?;
        if existing.store().is_absent()
            && let Err(other) = existing.require_own_pins()
        {
            // It may be meant: `reconcile --adopt` follows.
            failure::warn(&other.context("a new store is made"));
        }
        drop(existing);
        let mut control = Control::open(&self.paths, self.config)?;
        control.roll_back_overdue()?;
        Ok(control)
    }

    /// As [`Self::control`], but creates nothing where there is no store.
    pub(crate) fn control_existing(&self) -> Result<Control> {
        let mut control = self.control_unsettled()?;
        control.roll_back_overdue()?;
        Ok(control)
    }

    /// Opens the store for reading: it need not be writable. A change whose deadline for confirmation is
    /// over is rolled back, and what is printed is without it also where that fails.
    pub(crate) fn control_reading(&self) -> Result<Control> {
        let control = Control::open_read_only(&self.paths, self.config)?;
        if control.store().is_absent() {
            control.require_own_pins()?;
        }
        if !control.has_overdue_change()? {
            if control.unstored().is_ok_and(|unstored| !unstored.is_empty()) {
                eprintln!(
                    "warning: the kernel has what could not be stored yet; a reboot would undo it, and \
                     `secgroup reconcile` stores it"
                );
            }
            return Ok(control);
        }
        drop(control);
        let settle = || self.control_unsettled()?.roll_back_overdue();
        if let Err(error) = settle() {
            failure::warn(&error);
        }
        Control::open_read_only(&self.paths, self.config)
    }

    /// As if there were no store.
    pub(crate) fn control_without_store(&self) -> Result<Control> {
        Control::without_store(&self.paths, self.config)
    }

    /// As [`Self::control_existing`], but leaves such a change as it is.
    pub(crate) fn control_unsettled(&self) -> Result<Control> {
        Control::open_existing(&self.paths, self.config)
    }
}

/// The definition of every command, option and help text.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command in the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let Global { state_dir, pin_dir, config } = global;
    let run = || {
        let loaded = Config::load(config.as_deref()).or_else(|error| {
            if command.needs_configuration() {
                return Err(error);
            }
            failure::warn(&error.into());
            Ok(Config::substitute())
        })?;
        command.run(&Context { paths: Paths { state_dir, pin_dir, config }, config: loaded })
    };
    let exit = run().unwrap_or_else(|error| {
        if broken_pipe(&error) {
            // The reader of the output has closed it: `secgroup rule list | head`.
            return Exit::Done;
        }
        failure::report(&error);
        failure::exit(&error)
    });
    ExitCode::from(exit as u8)
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let written = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        // It has the error of the operating system inside, and not as its source.
        written.or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind())
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests;
