//! The control protocol: its types, the command line's end and the daemon's.
pub mod client;
pub mod events;
pub mod leases;
pub mod names;
pub mod outside;
mod peer;
pub mod server;
pub mod stats;
pub mod types;
