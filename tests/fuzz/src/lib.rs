//! Any bytes against the decision logic on the host, with invariants that hold for all of them.
//!
//! A target is a function from bytes to a panic or none. libFuzzer drives it with coverage
//! (`fuzz_targets/`), a seeded generator drives it without (`fuzz-plain`), and a test replays what
//! was found worth keeping (`corpus/`).

pub mod decide;
pub mod packet;
pub mod parse;
pub mod plain;
pub mod policy;
pub mod rules;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The parser.
    Parse,
    /// The decision, over sequences of packets.
    Decide,
    /// The compiler of rules.
    Policy,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 3] = [Self::Parse, Self::Decide, Self::Policy];

    /// The word for it on the command line and in `corpus/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Decide => "decide",
            Self::Policy => "policy",
        }
    }

    /// The target of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Tries one input and returns how many questions the logic answered.
    ///
    /// # Panics
    /// If an invariant does not hold.
    #[must_use]
    pub fn run(self, input: &[u8]) -> u64 {
        match self {
            Self::Parse => parse::run(input),
            Self::Decide => decide::run(input),
            Self::Policy => policy::run(input),
        }
    }
}
