//! `secgroup explain`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use firewall_ebpf::abi::interface::Direction;

use super::failure::UsageError;
use super::interfaces::Named;
use super::output::{self, Format, Output};
use super::{Context, Exit};
use crate::control::Control;
use crate::model::{Interface, Model};
use crate::observe::capture::{self, CaptureError};
use crate::observe::explain::{
    ExplainError, Explainer, Explanation, Explanations, Question, Skipped, Words, number_of_record,
    of_record,
};
use crate::observe::journal::{self, Reader};

mod text;

/// What an interface does with a packet, and why
#[derive(Debug, Args)]
#[command(after_help = "\
The programs of the interface decide about the packet, as they would about a real one; flows, counters
and the packets of others are not touched. docs/explain.md explains the answer.

Exit code 3: nothing is attached, or the interface or the record does not exist.

Examples:
  secgroup explain eth0 ingress tcp 192.0.2.7:51234 198.51.100.1:443
  secgroup explain eth0 egress udp 2001:db8::1 [2001:db8::53]:domain
  secgroup explain eth0 ingress icmp 192.0.2.7 198.51.100.1 --icmp echo-request
  secgroup explain eth0 ingress --pcap trace.pcap
  secgroup explain --from-drop 4711")]
pub(super) struct Command {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE
    #[arg(required_unless_present = "from_drop", value_name = "IFACE")]
    interface: Option<String>,
    /// Direction of the packet
    #[arg(required_unless_present = "from_drop", value_enum)]
    direction: Option<Direction>,
    /// IP protocol of the packet: tcp, udp, icmp, icmpv6, another name, or a number from 0 to 255
    #[arg(required_unless_present_any = ["pcap", "from_drop"])]
    protocol: Option<String>,
    /// Source, as ADDRESS or ADDRESS:PORT; of IPv6 as [ADDRESS]:PORT
    #[arg(required_unless_present_any = ["pcap", "from_drop"], value_name = "SOURCE")]
    source: Option<String>,
    /// Destination, the same; a port by number or name (https)
    #[arg(required_unless_present_any = ["pcap", "from_drop"], value_name = "DESTINATION")]
    destination: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    /// Type, or type and code, of an ICMP or ICMPv6 message, by number or name [default: echo-request]
    #[arg(long, value_name = "TYPE[/CODE]|NAME")]
    icmp: Option<String>,
    /// TCP flags, as syn,ack [default: syn, or ack where the packet belongs to a live flow]
    #[arg(long, value_name = "FLAGS")]
    tcp_flags: Option<String>,
    /// Explain each packet of a pcap or pcapng file, on its own
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["protocol", "source", "destination", "icmp", "tcp_flags"]
    )]
    pcap: Option<PathBuf>,
    /// Explain the first packet of a record of `secgroup drops`, as things are now
    #[arg(
        long,
        value_name = "ID",
        value_parser = record_number,
        conflicts_with_all = ["interface", "direction", "netns", "icmp", "tcp_flags", "pcap"]
    )]
    from_drop: Option<u64>,
    /// Also print what the kernel program prints about the packet
    #[arg(long)]
    log: bool,
    #[command(flatten)]
    output: Output,
}

/// `#4711`, as `secgroup drops` prints it, or 4711.
fn record_number(word: &str) -> Result<u64, String> {
    number_of_record(word)
        .ok_or_else(|| "write the number of a record, as 4711 or '#4711'".to_owned())
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        self.explain(context).context("explain")
    }

    fn explain(self, context: &Context) -> Result<Exit> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let found = match (self.from_drop, &self.interface, self.direction) {
            (Some(id), ..) => {
                let journal = Reader::open(&journal::directory(&control.paths().state_dir))?;
                let found = of_record(&control, &model, &journal, id, self.log)?;
                Explanations::new(vec![found], Vec::new())
            }
            (None, Some(word), Some(direction)) => {
                self.of_words(&control, &model, word, direction)?
            }
            // clap requires both.
            _ => {
                return Err(UsageError {
                    message: "interface and direction are missing".to_owned(),
                    hint: "write for example eth0 ingress",
                }
                .into());
            }
        };
        self.print(&found)?;
        Ok(Exit::Done)
    }

    fn of_words(
        &self,
        control: &Control,
        model: &Model,
        word: &str,
        direction: Direction,
    ) -> Result<Explanations> {
        let named = Named::new(word, self.netns.as_deref())?;
        // What is wrong in the arguments is said before anything is loaded.
        let packet = self.pcap.is_none().then(|| self.words().packet()).transpose()?;
        let interface = named.of(control.pins(), model)?;
        let (mut explainer, question) = match (packet, &self.pcap) {
            (None, Some(path)) => {
                let what = format!("read {}", path.display());
                return self.of_file(control, interface, direction, path).context(what);
            }
            (Some(packet), _) => (Explainer::open(control, interface)?, Question::Packet(packet)),
            (None, None) => return Ok(Explanations::new(Vec::new(), Vec::new())),
        };
        let found = explainer.explain(control, &question, direction, self.log)?;
        Ok(Explanations::new(vec![found], Vec::new()))
    }

    fn words(&self) -> Words<'_> {
        Words {
            protocol: self.protocol.as_deref().unwrap_or_default(),
            source: self.source.as_deref().unwrap_or_default(),
            destination: self.destination.as_deref().unwrap_or_default(),
            icmp: self.icmp.as_deref(),
            tcp_flags: self.tcp_flags.as_deref(),
        }
    }

    fn print(&self, found: &Explanations) -> Result<()> {
        match (self.output.output, &found.explanations[..]) {
            (Format::Json, _) => output::value(found)?,
            (Format::Table, [one]) if self.pcap.is_none() => {
                output::lines([text::text(one).trim_end()])?;
            }
            (Format::Table, all) => {
                text::lines(all)?;
                let with_notes = all.iter().filter(|one| !one.notes.is_empty()).count();
                if with_notes > 0 {
                    let count = output::many(with_notes, "packet");
                    output::note(&format!("notes about {count}: --output json"));
                }
            }
        }
        for Skipped { number, reason } in &found.skipped {
            output::note(&format!("packet {number} was left out: {reason}"));
        }
        Ok(())
    }

    fn of_file(
        &self,
        control: &Control,
        interface: &Interface,
        direction: Direction,
        path: &Path,
    ) -> Result<Explanations> {
        let mut explainer = Explainer::open(control, interface)?;
        let (mut all, mut skipped): (Vec<Explanation>, Vec<Skipped>) = (Vec::new(), Vec::new());
        capture::read(path, |captured| -> Result<(), FileError> {
            let number = captured.number;
            let Some(frame) = capture::as_seen(&captured, explainer.has_ethernet()) else {
                let reason = "it is not IP, and the interface carries nothing else".to_owned();
                skipped.push(Skipped { number, reason });
                return Ok(());
            };
            match explainer.explain(control, &Question::Frame(frame), direction, self.log) {
                Ok(found) => all.push(Explanation { number: Some(number), ..found }),
                Err(error) => match error.downcast_ref::<ExplainError>() {
                    Some(ExplainError::Frame { .. }) => {
                        skipped.push(Skipped { number, reason: error.to_string() });
                    }
                    _ => return Err(FileError(error)),
                },
            }
            Ok(())
        })
        .map_err(|FileError(error)| error)?;
        Ok(Explanations::new(all, skipped))
    }
}

/// What ends the reading of a file.
struct FileError(anyhow::Error);

impl From<CaptureError> for FileError {
    fn from(error: CaptureError) -> Self {
        Self(error.into())
    }
}
