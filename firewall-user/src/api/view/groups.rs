//! Groups and rules.
