//! Flow logs: records of what the flows of interfaces did, in AWS's form, and where they are delivered.

pub mod aggregate;
pub mod destination;
pub mod field;
pub mod files;
pub mod journald;
pub mod record;
