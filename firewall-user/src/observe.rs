//! What happens to packets, for those who look: records of packets that belong to no flow, live flows, what each
//! rule is used for. Nothing here decides about a packet, and nothing here prints.

pub mod capture;
pub mod collector;
pub mod denials;
pub mod explain;
pub mod flow_logs;
pub mod flows;
pub mod hits;
pub mod instance;
pub mod journal;
pub mod pcapng;
pub mod query;
pub mod record;
pub mod simulate;
pub mod staged;
pub mod stats;
pub mod status;
pub mod untracked;

/// The version of the JSON documents that do not have the form of AWS. It changes when a field changes its
/// meaning or is removed, and not when one is added.
pub const SCHEMA_VERSION: u32 = 1;
