//! The query protocol of the EC2 API, without I/O.

pub mod sigv4;
