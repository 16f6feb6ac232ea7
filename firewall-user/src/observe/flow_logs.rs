//! Flow logs: records of what the flows of interfaces did, in AWS's form, and where they are delivered.

pub mod aggregate;
pub mod delivery;
pub mod destination;
pub mod field;
pub mod files;
pub mod flows;
pub mod input;
pub mod journald;
pub mod lacking;
pub mod packets;
pub mod record;
pub mod status;

#[cfg(test)]
mod tests;
