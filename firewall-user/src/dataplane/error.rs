//! Errors of the dataplane: one line that names operation and object, and a hint.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Display;
use std::io;

use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::programs::tc::TcError;
use aya::programs::xdp::XdpError;
use aya::sys::NetlinkError;
use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::explain::{Exit, Explain};
use crate::ownership::OwnershipError;

/// A failed operation on the kernel.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DataplaneError {
    message: String,
    hint: String,
    is_not_found: bool,
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, DataplaneError>;

impl DataplaneError {
    /// Whether the named object does not exist.
    pub(in crate::dataplane) const fn is_not_found(&self) -> bool {
        self.is_not_found
    }

    /// `message` names the operation, the object and the reason; `hint` says what to do, or is empty.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), is_not_found: false }
    }

    /// As [`Self::new`], where the object that the user named does not exist.
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_not_found: true, ..Self::new(message, hint) }
    }
}

impl Explain for DataplaneError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(&self.hint).filter(|hint| !hint.is_empty()).map(|hint| Cow::Owned(hint.clone()))
    }

    fn exit(&self) -> Exit {
        if self.is_not_found { Exit::NotFound } else { Exit::Failed }
    }
}

/// Names the operation and the object that an error of a lower layer belongs to.
pub(crate) trait Context<T> {
    /// `operation object: reason`, with a hint where the error number has a usual cause.
    fn context(self, operation: impl Display) -> Result<T>;
}

impl<T, E: StdError + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, operation: impl Display) -> Result<T> {
        self.map_err(|error| {
            let hint = errno(&error).and_then(usual_hint).unwrap_or_default();
            DataplaneError::new(format!("{operation}: {}", chain(&error)), hint)
        })
    }
}

impl From<OwnershipError> for DataplaneError {
    fn from(error: OwnershipError) -> Self {
        let hint = error.hint().unwrap_or_default();
        Self::new(format!("pin directory: {}", chain(&error)), hint)
    }
}

/// The kernel's error number in an error or its causes.
pub(crate) fn errno(error: &(dyn StdError + 'static)) -> Option<Errno> {
    let mut next = Some(error);
    while let Some(cause) = next {
        let number = own_errno(cause);
        if number.is_some() {
            return number;
        }
        next = cause.source();
    }
    None
}

fn own_errno(error: &(dyn StdError + 'static)) -> Option<Errno> {
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return Some(*errno);
    }
    // aya's transparent variants leave the error that they wrap out of the chain of sources.
    let number = if let Some(error) = error.downcast_ref::<ProgramError>() {
        match error {
            ProgramError::IOError(error) => error.raw_os_error(),
            ProgramError::NetlinkError(error) => error.raw_os_error(),
            ProgramError::MapError(error) => return own_errno(error),
            ProgramError::TcError(error) => return own_errno(error),
            ProgramError::XdpError(error) => return own_errno(error),
            _ => None,
        }
    } else if let Some(error) = error.downcast_ref::<TcError>() {
        match error {
            TcError::IoError(error) => error.raw_os_error(),
            TcError::NetlinkError(error) => error.raw_os_error(),
            _ => None,
        }
    } else if let Some(error) = error.downcast_ref::<XdpError>() {
        let XdpError::NetlinkError(error) = error;
        error.raw_os_error()
    } else if let Some(MapError::IoError(error)) = error.downcast_ref::<MapError>() {
        error.raw_os_error()
    } else if let Some(error) = error.downcast_ref::<NetlinkError>() {
        error.raw_os_error()
    } else {
        error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
    };
    number.map(Errno::from_raw)
}

/// The usual cause of an error number of the kernel. Only a user who is not root is told to be root.
pub(crate) fn usual_hint(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EPERM | Errno::EACCES if !geteuid().is_root() => Some("run as root"),
        Errno::EPERM | Errno::EACCES => Some(
            "root is refused: kernel lockdown, a security module or the seccomp profile of a container \
             forbids it",
        ),
        Errno::ENOMEM | Errno::E2BIG => Some(
            "the maps did not fit in memory: make [maps] smaller in the configuration, or raise the \
             memory limit of the unit or container",
        ),
        _ => None,
    }
}

/// An error with its causes on one line, without those that an outer text already repeats.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = first_line(&cause.to_string());
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The verifier's log has thousands of lines; the first states the error.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    #[test]
    fn the_error_number_is_found_behind_every_wrapper() {
        let io = || io::Error::from_raw_os_error(libc::EBUSY);
        let syscall = || SyscallError { call: "bpf_link_create", io_error: io() };
        let map = || MapError::CreateError { name: "FLOWS".to_owned(), io_error: io() };
        let errors: [Box<dyn StdError>; 11] = [
            Box::new(io()),
            Box::new(Errno::EBUSY),
            Box::new(syscall()),
            Box::new(ProgramError::from(syscall())),
            Box::new(ProgramError::IOError(io())),
            Box::new(ProgramError::from(map())),
            Box::new(map()),
            Box::new(MapError::from(syscall())),
            Box::new(MapError::IoError(io())),
            Box::new(TcError::IoError(io())),
            Box::new(ProgramError::from(TcError::IoError(io()))),
        ];
        for error in errors {
            assert_eq!(errno(&*error), Some(Errno::EBUSY), "{error:?}");
        }
        assert_eq!(errno(&io::Error::other("no number")), None);
    }

    #[test]
    fn a_usual_cause_becomes_the_hint() {
        let hint = |errno: i32| {
            let error: Result<()> = Err(io::Error::from_raw_os_error(errno)).context("open map");
            error.unwrap_err().hint().unwrap_or_default()
        };
        let (root, other) = ("root is refused: kernel lockdown", "run as root");
        let forbidden = if geteuid().is_root() { root } else { other };
        assert!(hint(libc::EPERM).starts_with(forbidden));
        assert!(hint(libc::EACCES).starts_with(forbidden));
        assert!(hint(libc::ENOMEM).starts_with("the maps did not fit"));
        assert_eq!(hint(libc::EINVAL), "");
    }
}
