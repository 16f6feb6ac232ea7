//! From groups to what the kernel looks into, and the reference that says what it should answer.
//! Pure: no I/O, no kernel.

pub mod book;
mod compared;
pub mod compile;
pub mod delta;
pub mod evaluate;
mod follow;
pub mod panic;
pub mod questions;
mod ranges;
pub mod resolve;
mod untracked;

pub use book::{Book, Numbered};
pub use compile::{TooLarge, compile};
pub use evaluate::{Question, evaluate, is_untracked};
pub use panic::{MANAGEMENT_RULE, in_force};
pub use resolve::{Addresses, ResolvedRule, resolve};
