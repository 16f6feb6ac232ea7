//! The console: pages in a browser about what happens on this host. It only reads, it listens on loopback or a Unix
//! socket, and every page is also there as the JSON document that a command prints.
//!
//! Pages are complete without a script; the script adds drops as they happen. Texts that come from users, such as the
//! names of groups and devices, are escaped by the templates, or set as text by the script.

mod answer;
mod assets;
mod filters;
mod guard;
mod headers;
mod journal;
mod pages;
mod routes;
pub mod server;
mod texts;
mod view;

#[cfg(test)]
mod tests;
