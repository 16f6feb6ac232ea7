//! Why a packet cannot be explained.

use std::borrow::Cow;

use crate::dataplane::explain::longest_frame;
use crate::explain::Explain;

/// Why a packet cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// No packet meets the programs.
    #[error("{interface} is stored, and its programs are not on a device{why}")]
    NotEnforced {
        /// The interface.
        interface: String,
        /// What is missing, after a colon; or empty.
        why: String,
    },
    /// The kernel does not run the programs on such a frame.
    #[error(
        "a frame of {length} bytes: a test run of the kernel takes none that is shorter than 14 or longer than {} bytes, or that ends within its IP header",
        longest_frame()
    )]
    Frame {
        /// Its length.
        length: usize,
    },
}

impl Explain for ExplainError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NotEnforced { .. } => Some(
                "`secgroup status` says more; `secgroup reconcile` attaches what is stored".into(),
            ),
            Self::Frame { .. } => None,
        }
    }
}
