//! The decision on the host, in memory: the same code as in the kernel, over ordinary tables.

mod big_tcp;
mod cases;
mod full_table;
mod port_security;
mod timeouts;
mod truncated;
