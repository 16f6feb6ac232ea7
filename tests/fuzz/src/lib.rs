//! Fuzz targets of the verdict logic on the host, of AWS documents and of the EC2 API's parsers, with invariants that
//! hold for all inputs.
//!
//! A target is a function of bytes that panics if an invariant is violated. libFuzzer runs it with
//! coverage (`fuzz_targets/`), a seeded generator runs it without (`fuzz-plain`), and a test runs
//! the stored inputs (`corpus/`).

pub mod decide;
pub mod document;
pub mod form;
pub mod packet;
pub mod parse;
pub mod plain;
pub mod policy;
pub mod rules;
pub mod sigv4;

/// A fuzz target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The parser.
    Parse,
    /// The verdict logic, over sequences of packets.
    Decide,
    /// The policy compiler.
    Policy,
    /// Forms of the EC2 API.
    Form,
    /// Signatures of the EC2 API.
    SigV4,
    /// AWS documents.
    Document,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 6] =
        [Self::Parse, Self::Decide, Self::Policy, Self::Form, Self::SigV4, Self::Document];

    /// Its name on the command line and in `corpus/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Decide => "decide",
            Self::Policy => "policy",
            Self::Form => "form",
            Self::SigV4 => "sigv4",
            Self::Document => "document",
        }
    }

    /// The target of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Runs one input; returns how many results were checked: frames parsed, packets decided,
    /// lookups, parameters, requests or documents.
    ///
    /// # Panics
    /// If an invariant is violated.
    #[must_use]
    pub fn run(self, input: &[u8]) -> u64 {
        match self {
            Self::Parse => parse::run(input),
            Self::Decide => decide::run(input),
            Self::Policy => policy::run(input),
            Self::Form => form::run(input),
            Self::SigV4 => sigv4::run(input),
            Self::Document => document::run(input),
        }
    }
}
