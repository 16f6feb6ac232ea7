//! Naming interfaces: one form for every command, that of the lists.

use anyhow::Result;
use clap::Args;

use super::failure::UsageError;
use crate::control::enforcement;
use crate::dataplane::Pins;
use crate::model::{Error, Interface, Model, label};

/// The interface of a command.
#[derive(Clone, Debug, Args)]
pub(super) struct InterfaceArgs {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE
    #[arg(value_name = "IFACE")]
    device: String,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
}

impl InterfaceArgs {
    /// The text of the interface, as it was given.
    pub(super) fn text(&self) -> &str {
        &self.device
    }

    pub(super) fn parse(&self) -> Result<Named> {
        Named::new(&self.device, self.netns.as_deref())
    }
}

/// The interfaces to read.
#[derive(Clone, Debug, Args)]
pub(super) struct Selection {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE [default: all attached ones]
    #[arg(value_name = "IFACE")]
    pub(super) device: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME", requires = "device")]
    netns: Option<String>,
}

impl Selection {
    /// The chosen interfaces of the store.
    pub(super) fn of<'a>(&self, pins: &Pins, model: &'a Model) -> Result<Vec<&'a Interface>> {
        match &self.device {
            None => Ok(model.interfaces.values().collect()),
            Some(device) => Ok(vec![Named::new(device, self.netns.as_deref())?.of(pins, model)?]),
        }
    }
}

/// A device and its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) device: String,
    /// `None`: the namespace that secgroup runs in.
    pub(super) netns: Option<String>,
}

impl Named {
    /// Reads `DEVICE` or `NAMESPACE/DEVICE`, as [`Interface::label`] prints it, and `--netns`.
    ///
    /// # Errors
    /// They contradict one another, or cannot be the names of a device and a namespace.
    pub(super) fn new(word: &str, netns: Option<&str>) -> Result<Self> {
        // No name of a device or of a namespace contains a slash.
        let (inner, device) = match word.split_once('/') {
            Some((netns, device)) => (Some(netns), device),
            None => (None, word),
        };
        let can_be = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
        if !can_be(device) || inner.is_some_and(|inner| !can_be(inner)) {
            return usage(
                format!("{word:?} is not DEVICE or NAMESPACE/DEVICE"),
                "`secgroup status` shows the interfaces in this form",
            );
        }
        if let Some(netns) = netns
            && !can_be(netns)
        {
            let message = format!("{netns:?} is not the name of a network namespace");
            return usage(message, "`ip netns list` shows the named ones");
        }
        match (inner, netns) {
            (Some(inner), Some(netns)) if inner != netns => usage(
                format!("{word} is in namespace {inner}, and --netns names {netns}"),
                "name the namespace once",
            ),
            _ => Ok(Self { device: device.to_owned(), netns: inner.or(netns).map(str::to_owned) }),
        }
    }

    /// The interface of the store that is meant; `None`: it is not attached.
    ///
    /// # Errors
    /// As [`enforcement::named`].
    pub(super) fn find<'a>(&self, pins: &Pins, model: &'a Model) -> Result<Option<&'a Interface>> {
        enforcement::named(pins, model, &self.device, self.netns.as_deref())
    }

    /// As [`Self::find`], where it has to be attached.
    pub(super) fn of<'a>(&self, pins: &Pins, model: &'a Model) -> Result<&'a Interface> {
        self.find(pins, model)?.ok_or_else(|| self.missing().into())
    }

    /// That it is not attached.
    pub(super) fn missing(&self) -> Error {
        Error::InterfaceNotFound(label(&self.device, self.netns.as_deref()))
    }
}

fn usage<T>(message: String, hint: &'static str) -> Result<T> {
    Err(UsageError { message, hint }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_named_as_it_is_printed() {
        let named = |device: &str, netns: Option<&str>| Named {
            device: device.to_owned(),
            netns: netns.map(str::to_owned),
        };
        for (word, netns, expected) in [
            ("eth0", None, named("eth0", None)),
            ("eth0", Some("blue"), named("eth0", Some("blue"))),
            ("blue/eth0", None, named("eth0", Some("blue"))),
            ("blue/eth0", Some("blue"), named("eth0", Some("blue"))),
            ("eth0.5@x", None, named("eth0.5@x", None)),
        ] {
            let parsed = Named::new(word, netns).unwrap();
            assert_eq!(parsed, expected, "{word}");
            assert_eq!(
                Named::new(&label(&parsed.device, parsed.netns.as_deref()), None).unwrap(),
                parsed
            );
        }
        for (word, netns) in [
            ("", None),
            ("/eth0", None),
            ("blue/", None),
            ("a/b/eth0", None),
            ("../eth0", None),
            ("blue/eth0", Some("red")),
            ("eth0", Some("../../proc/1/ns/net")),
            ("eth0", Some("")),
        ] {
            assert!(Named::new(word, netns).is_err(), "{word} {netns:?}");
        }
    }
}
