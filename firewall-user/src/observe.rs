//! What happens to packets, for those who look: records of packets that belong to no flow, live flows, what each
//! rule is used for. Nothing here decides about a packet, and nothing here prints.

pub mod flow_logs;
pub mod flows;
pub mod query;
pub mod record;
