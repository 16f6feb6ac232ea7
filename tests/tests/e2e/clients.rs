//! Clients of EC2, unmodified, against the endpoint of the built program.

mod ansible;
mod corpus;
mod custodian;
mod flow_logs;
mod javascript;
mod python;
mod sequences;
mod terraform;
mod tutorial;
