//! Naming interfaces: one form for every command and filter, that of the lists.

use std::borrow::Cow;

use anyhow::Result;

use super::enforcement;
use crate::dataplane::Pins;
use crate::explain::{Exit, Explain};
use crate::model::{Error, Interface, Model, label};

/// A word that cannot be the name of an interface.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NameError {
    message: String,
    hint: &'static str,
}

impl Explain for NameError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(self.hint.into())
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// A device and its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The device, or the id of an interface.
    pub device: String,
    /// `None`: the namespace that secgroup runs in.
    pub netns: Option<String>,
}

impl Named {
    /// Reads `DEVICE` or `NAMESPACE/DEVICE`, as [`Interface::label`] prints it, and `--netns`.
    ///
    /// # Errors
    /// A [`NameError`]: they contradict one another, or cannot be the names of a device and a namespace.
    pub fn new(word: &str, netns: Option<&str>) -> Result<Self> {
        // No name of a device or of a namespace contains a slash.
        let (inner, device) = match word.split_once('/') {
            Some((netns, device)) => (Some(netns), device),
            None => (None, word),
        };
        let can_be = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
        if !can_be(device) || inner.is_some_and(|inner| !can_be(inner)) {
            return Err(NameError {
                message: format!("{word:?} is not DEVICE or NAMESPACE/DEVICE"),
                hint: "`secgroup status` shows the interfaces in this form",
            }
            .into());
        }
        if let Some(netns) = netns
            && !can_be(netns)
        {
            return Err(NameError {
                message: format!("{netns:?} is not the name of a network namespace"),
                hint: "`ip netns list` shows the named ones",
            }
            .into());
        }
        match (inner, netns) {
            (Some(inner), Some(netns)) if inner != netns => Err(NameError {
                message: format!("{word} is in namespace {inner}, and --netns names {netns}"),
                hint: "name the namespace once",
            }
            .into()),
            _ => Ok(Self { device: device.to_owned(), netns: inner.or(netns).map(str::to_owned) }),
        }
    }

    /// The interface of the store that is meant; `None`: it is not attached.
    ///
    /// # Errors
    /// As [`enforcement::named`].
    pub fn find<'a>(&self, pins: &Pins, model: &'a Model) -> Result<Option<&'a Interface>> {
        enforcement::named(pins, model, &self.device, self.netns.as_deref())
    }

    /// As [`Self::find`], where it has to be attached.
    ///
    /// # Errors
    /// It is not; or as there.
    pub fn of<'a>(&self, pins: &Pins, model: &'a Model) -> Result<&'a Interface> {
        self.find(pins, model)?.ok_or_else(|| self.missing().into())
    }

    /// That it is not attached.
    #[must_use]
    pub fn missing(&self) -> Error {
        Error::InterfaceNotFound(label(&self.device, self.netns.as_deref()))
    }
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
