//! The compiler and the planner of changes, against the reference evaluator, on random rules.

mod blocks;
mod compile;
mod delta;
mod ends;
mod explain;
mod filter;
mod nearest;
mod random;
mod redundant;
mod verdicts;
