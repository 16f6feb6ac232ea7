//! The hint and the exit code of an error.

use std::borrow::Cow;
use std::error::Error;

use crate::model::{self, Kind, document};

macro_rules! exits {
    ($($(#[doc = $help:literal])* $name:ident = $code:literal;)*) => {
        /// The exit code of a process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit {
            $($(#[doc = $help])* $name = $code,)*
        }

        impl Exit {
            /// Every exit code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it means, in one sentence.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => concat!($($help),*).trim_ascii(),)* }
            }
        }
    };
}

exits! {
    /// Done; of a command that runs until it is interrupted, also then.
    Done = 0;
    /// Failed; nothing was changed, unless the error says otherwise.
    Failed = 1;
    /// Invalid usage: the arguments are malformed or contradict one another.
    Usage = 2;
    /// A named object does not exist, nothing is attached, there is no unconfirmed change, or a time was not watched as
    /// a whole (`rule unused`).
    NotFound = 3;
    /// The document or file differs from the store (`diff`; `apply`, `import` and `prefix-list load` with `--dry-run`), or
    /// a connection would break (`simulate`).
    Differs = 4;
    /// A stored interface whose device exists is not enforced (`status`).
    NotEnforced = 5;
    /// Done in the kernel, but not stored: the store cannot be written.
    NotStored = 6;
    /// Interrupted before it was done.
    Interrupted = 130;
}

/// An error that a command reports.
pub trait Explain: Error {
    /// What to do about it, if there is more to say than the error itself.
    fn hint(&self) -> Option<Cow<'static, str>>;

    /// The exit code of a command that fails with it.
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}

impl Explain for model::Error {
    fn hint(&self) -> Option<Cow<'static, str>> {
        self.hint().map(Cow::Owned)
    }

    fn exit(&self) -> Exit {
        match self.kind() {
            Kind::Malformed => Exit::Usage,
            Kind::NotFound => Exit::NotFound,
            Kind::Refused => Exit::Failed,
        }
    }
}

/// The exit code is the default one for every kind: the file is invalid, not the command line.
impl Explain for document::Error {
    fn hint(&self) -> Option<Cow<'static, str>> {
        self.hint().map(Cow::Owned)
    }
}

/// The exit code is the default one, as for [`document::Error`].
impl Explain for document::Errors {
    fn hint(&self) -> Option<Cow<'static, str>> {
        self.iter().find_map(|one| one.error.hint()).map(Cow::Owned)
    }
}
