//! `secgroup explain`

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::wire::protocol;

use super::failure::UsageError;
use super::interfaces::Named;
use super::output::{self, Format, Output};
use super::{Context, Exit};
use crate::control::Control;
use crate::model::{Family, IcmpMatch, Interface};
use crate::observe::capture::{self, CaptureError};
use crate::observe::explain::{
    ExplainError, Explainer, Explanation, Explanations, FLAGS, Packet, Question, Skipped,
};
use crate::observe::query::protocol_by_name;
use crate::policy::services;

mod text;

/// The source port where none is given: of the range of clients (RFC 6056).
const SOURCE_PORT: u16 = 50_000;

/// What an interface does with a packet, and why
#[derive(Debug, Args)]
#[command(after_help = "\
The programs of the interface decide about the packet, as they would about a real one; flows, counters
and the packets of others are not touched. docs/explain.md explains the answer.

Exit code 3: nothing is attached, or the interface does not exist.

Examples:
  secgroup explain eth0 ingress tcp 192.0.2.7:51234 198.51.100.1:443
  secgroup explain eth0 egress udp 198.51.100.1 [2001:db8::53]:domain
  secgroup explain eth0 ingress icmp 192.0.2.7 198.51.100.1 --icmp echo-request
  secgroup explain eth0 ingress --pcap trace.pcap")]
pub(super) struct Command {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE
    #[arg(value_name = "IFACE")]
    interface: String,
    /// Direction of the packet
    #[arg(value_enum)]
    direction: Direction,
    /// IP protocol of the packet: tcp, udp, icmp, icmpv6, another name, or a number from 0 to 255
    #[arg(required_unless_present = "pcap")]
    protocol: Option<String>,
    /// Source, as ADDRESS or ADDRESS:PORT; of IPv6 as [ADDRESS]:PORT
    #[arg(required_unless_present = "pcap", value_name = "SOURCE")]
    source: Option<String>,
    /// Destination, the same; a port by number or name (https)
    #[arg(required_unless_present = "pcap", value_name = "DESTINATION")]
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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["protocol", "source", "destination", "icmp", "tcp_flags"])]
    pcap: Option<PathBuf>,
    /// Also print what the kernel program prints about the packet
    #[arg(long)]
    log: bool,
    #[command(flatten)]
    output: Output,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        self.explain(context).context("explain")
    }

    fn explain(self, context: &Context) -> Result<Exit> {
        let control = context.control_reading()?;
        let model = control.model()?;
        let named = Named::new(&self.interface, self.netns.as_deref())?;
        let interface = named.of(control.pins(), &model)?;
        // What is wrong in the arguments is said before anything is loaded.
        let packet = match &self.pcap {
            None => Some(self.packet()?),
            Some(_) => None,
        };
        let found = match (packet, &self.pcap) {
            (Some(packet), _) => {
                let mut explainer = Explainer::open(&control, interface)?;
                let question = Question::Packet(packet);
                let found = explainer.explain(&control, &question, self.direction, self.log)?;
                Explanations::new(vec![found], Vec::new())
            }
            (None, Some(path)) => {
                let what = format!("read {}", path.display());
                self.of_file(&control, interface, path).context(what)?
            }
            (None, None) => Explanations::new(Vec::new(), Vec::new()),
        };
        self.print(&found)?;
        Ok(Exit::Done)
    }

    fn print(&self, found: &Explanations) -> Result<()> {
        match (self.output.output, &found.explanations[..]) {
            (Format::Json, _) => output::value(found)?,
            (Format::Table, [one]) if self.pcap.is_none() => {
                output::lines([text::text(one).trim_end()])?;
            }
            (Format::Table, all) => text::lines(all)?,
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
        path: &std::path::Path,
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
            match explainer.explain(control, &Question::Frame(frame), self.direction, self.log) {
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

    fn packet(&self) -> Result<Packet> {
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let (protocol, source, destination) =
            (word(&self.protocol), word(&self.source), word(&self.destination));
        let number =
            protocol_by_name(&protocol.to_ascii_lowercase()).map_err(|known| UsageError {
                message: format!("{protocol:?} is no protocol: known are {known}"),
                hint: "write for example tcp, udp, icmp or 47",
            })?;
        let has_ports = matches!(number, protocol::TCP | protocol::UDP);
        let (from, from_port) = end(&source, number)?;
        let (to, to_port) = end(&destination, number)?;
        if from.is_ipv4() != to.is_ipv4() {
            return usage(
                format!("{from} and {to} are not of one family"),
                "a packet has two IPv4 addresses or two IPv6 addresses",
            );
        }
        if !has_ports && (from_port.is_some() || to_port.is_some()) {
            return usage(format!("{protocol} has no ports"), "write the addresses alone");
        }
        if has_ports && to_port.is_none() {
            return usage(
                format!("{destination}: the port is missing"),
                "write ADDRESS:PORT, of IPv6 [ADDRESS]:PORT",
            );
        }
        let family = if from.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let is_icmp = match family {
            Family::Ipv4 => number == protocol::ICMP,
            Family::Ipv6 => number == protocol::ICMPV6,
        };
        let icmp = match &self.icmp {
            Some(_) if !is_icmp => {
                let name = if from.is_ipv4() { "icmp" } else { "icmpv6" };
                return usage(
                    format!("--icmp cannot be used with protocol {protocol}"),
                    if name == "icmp" { "the protocol is icmp" } else { "the protocol is icmpv6" },
                );
            }
            Some(word) => icmp(word, family)?,
            None if is_icmp => icmp("echo-request", family)?,
            None => [0; 2],
        };
        let flags = match &self.tcp_flags {
            Some(_) if number != protocol::TCP => {
                return usage(
                    format!("--tcp-flags cannot be used with protocol {protocol}"),
                    "leave it out",
                );
            }
            flags => flags.as_deref().map(flags_of).transpose()?,
        };
        let ports = if has_ports {
            [from_port.unwrap_or(SOURCE_PORT), to_port.unwrap_or_default()]
        } else {
            [0; 2]
        };
        Ok(Packet { protocol: number, source: from, destination: to, ports, icmp, flags })
    }
}

/// What ends the reading of a file.
struct FileError(anyhow::Error);

impl From<CaptureError> for FileError {
    fn from(error: CaptureError) -> Self {
        Self(error.into())
    }
}

/// An address, and its port if there is one.
fn end(word: &str, number: u8) -> Result<(IpAddr, Option<u16>)> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok((address, None));
    }
    if let Ok(address) = word.parse::<SocketAddr>() {
        return Ok((address.ip(), Some(address.port())));
    }
    let named = word.rsplit_once(':').and_then(|(address, name)| {
        let address = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some((address, Some(services::port_by_name(name, Some(number))?)))
    });
    named.ok_or_else(|| {
        anyhow!(UsageError {
            message: format!("{word:?} is neither ADDRESS nor ADDRESS:PORT"),
            hint: "write for example 192.0.2.7:443, [2001:db8::1]:https or 192.0.2.7",
        })
    })
}

/// Type and code of a message.
fn icmp(word: &str, family: Family) -> Result<[u8; 2]> {
    let numbers = || {
        let (kind, code) = word.split_once('/').unwrap_or((word, "0"));
        Some([kind.parse().ok()?, code.parse().ok()?])
    };
    let named = || match services::icmp_by_name(word, family)? {
        IcmpMatch::Any => None,
        IcmpMatch::Type(kind) => Some([kind, 0]),
        IcmpMatch::TypeCode(kind, code) => Some([kind, code]),
    };
    numbers().or_else(named).ok_or_else(|| {
        anyhow!(UsageError {
            message: format!("{word:?} is not an ICMP type, type/code or name of this family"),
            hint: "write for example 8/0, 3/4 or echo-request",
        })
    })
}

fn flags_of(words: &str) -> Result<u8> {
    let mut flags = 0;
    for word in words.split(',').filter(|word| *word != "none") {
        let known = FLAGS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        let Some((_, flag)) = known else {
            return usage(
                format!("{word:?} is no TCP flag"),
                "known are fin, syn, rst, psh, ack, urg, ece and cwr, separated by commas, and none",
            );
        };
        flags |= flag;
    }
    Ok(flags)
}

fn usage<T>(message: String, hint: &'static str) -> Result<T> {
    Err(UsageError { message, hint }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_ports_by_number_and_name() {
        let known = |word: &str| end(word, 6).unwrap();
        assert_eq!(known("192.0.2.7"), ("192.0.2.7".parse().unwrap(), None));
        assert_eq!(known("192.0.2.7:https"), ("192.0.2.7".parse().unwrap(), Some(443)));
        assert_eq!(known("[2001:db8::1]:80"), ("2001:db8::1".parse().unwrap(), Some(80)));
        assert_eq!(known("2001:db8::1"), ("2001:db8::1".parse().unwrap(), None));
        for word in ["", "x", "192.0.2.7:", "192.0.2.7:nothing", "192.0.2.7:65536", "192.0.2:80"] {
            assert!(end(word, 6).is_err(), "{word}");
        }
    }

    #[test]
    fn messages_and_flags_have_numbers_and_names() {
        assert_eq!(icmp("8/0", Family::Ipv4).unwrap(), [8, 0]);
        assert_eq!(icmp("echo-request", Family::Ipv6).unwrap(), [128, 0]);
        assert!(icmp("8/0/1", Family::Ipv4).is_err() && icmp("256", Family::Ipv4).is_err());
        assert_eq!(flags_of("syn,ACK").unwrap(), 0x12);
        assert_eq!(flags_of("none").unwrap(), 0);
        assert!(flags_of("syn,").is_err());
    }
}
