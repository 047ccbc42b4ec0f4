//! The control protocol: its types, the command line's end and the daemon's.
pub mod client;
pub mod server;
pub mod types;
