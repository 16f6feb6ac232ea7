//! The compiler and the planner of changes, against the reference evaluator, on random rules.

mod compile;
mod delta;
mod random;
